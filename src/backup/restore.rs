//! A data folder out of a backup.

use std::path::Path;

use krocket_store::Restoring;

use super::{BackupError, Folder, Manifest, Progress};

/// Copies a backup into an empty data folder, checking every byte. krocket builds the index when it is started there.
pub fn restore(folder: &Folder, manifest: &Manifest, data: &Path, progress: Progress<'_>) -> Result<(), BackupError> {
    manifest.check_format()?;
    let log_id = manifest.log_id()?;
    let restoring = Restoring::begin(data)?;
    let (mut done, total) = (0, manifest.bytes());
    for file in &manifest.files {
        let mut to = restoring.create(&file.name)?;
        folder.copy(manifest, file, &mut to, &mut |bytes| progress(done + bytes, total))?;
        to.sync_all().map_err(BackupError::io("sync", data))?;
        done += file.len;
    }
    Ok(restoring.finish(log_id)?)
}
