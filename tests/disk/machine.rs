//! A machine whose power can go: a krocket in this process on a file system that remembers what was synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use krocket_store::fs::double::Double;
use krocket_testkit::Krocket;
use krocket_testkit::promises::{CONFIG, SMALL};
use rand::Rng;
use rand::rngs::StdRng;
use tempfile::TempDir;

/// Long enough that something is always on its way to the disk.
const SYNC_TAKES: Duration = Duration::from_millis(8);

/// What power cuts took.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Pages and changes of the folder.
    pub(crate) changes: u64,
    pub(crate) without_index: u32,
}

/// A disk that syncs for nothing, where there is one: what is lost is decided here, not there.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

pub(crate) async fn start(folder: &Path) -> Result<(Krocket, Double), String> {
    let double = Double::default();
    double.slow_syncs(SYNC_TAKES);
    let fs = Arc::new(double.clone());
    let server = Krocket::open(&data(folder), &format!("{CONFIG}{SMALL}"), |settings| settings.log.store.fs = fs).await;
    Ok((server.map_err(|failure| format!("it does not start: {failure}"))?, double))
}

/// The disk as the next start finds it: the index of the very instant, or none, and what survives of the log.
pub(crate) fn restarted(
    folder: &TempDir,
    index: TempDir,
    double: &Double,
    rng: &mut StdRng,
    lost: &mut Lost,
) -> TempDir {
    let (data, image) = (data(folder.path()), self::folder());
    let after = self::data(image.path());
    if rng.random_range(0..4) == 0 {
        lost.without_index += 1;
    } else {
        copy(index.path(), &after.join("index")).expect("it can be copied");
    }
    copy(&data.join("log"), &after.join("log")).expect("it can be copied");
    std::fs::copy(data.join("format"), after.join("format")).expect("it can be copied");
    let odds = rng.random_range(0.0..1.0);
    let taken = double.power_loss(&data.join("log"), &after.join("log"), &mut || rng.random_bool(odds));
    lost.changes += taken.expect("the image can be changed");
    image
}

/// A copy of what RocksDB is still at work in.
pub(crate) fn copied(from: &Path) -> TempDir {
    loop {
        let image = folder();
        match copy(from, image.path()) {
            Ok(()) => return image,
            // It removed a file of its own meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("copy: {error}"),
        }
    }
}

/// A folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}
