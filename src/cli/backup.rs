//! `krocket backup` and `krocket restore`

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Query, Remote, path};
use super::say;
use crate::backup::{self, BackupError, Folder, Manifest, Source};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Backup {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take a backup of a running krocket: copies what the folder does not have yet.
    Create {
        /// The folder that holds the backups.
        folder: PathBuf,
    },
    /// The backups in a folder.
    List {
        /// The folder that holds the backups.
        folder: PathBuf,
    },
    /// Read every file of a backup and compare checksums.
    Verify {
        /// The folder that holds the backups.
        folder: PathBuf,
        /// Which one [default: the newest].
        #[arg(long, value_name = "ID")]
        backup: Option<String>,
    },
    /// Keep the newest backups, delete the others and what only they need.
    Prune {
        /// The folder that holds the backups.
        folder: PathBuf,
        /// How many to keep.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
    },
}

#[derive(Args)]
pub(super) struct Restore {
    /// The folder that holds the backups.
    folder: PathBuf,
    /// The data folder to fill: an empty one, or one that does not exist.
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Which one [default: the newest].
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Failure::Other(error.to_string())
    }
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::Create { folder } => create(remote, &Folder::open(&folder, true)?),
            Command::List { folder } => {
                let all = Folder::open(&folder, false)?.list()?;
                remote.list(&all.iter().map(row).collect(), &[]);
                Ok(())
            }
            Command::Verify { folder, backup } => {
                let folder = Folder::open(&folder, false)?;
                let manifest = folder.find(backup.as_deref())?;
                with_bar(|progress| folder.verify(&manifest, progress))?;
                remote.done(&row(&manifest), "every byte is as it was");
                Ok(())
            }
            Command::Prune { folder, keep } => {
                let pruned = Folder::open(&folder, false)?.prune(keep as usize)?;
                let answer = json!({ "deleted": pruned.backups, "files": pruned.files, "bytes": pruned.bytes });
                remote.done(&answer, &format!("deleted {} backups", pruned.backups.len()));
                Ok(())
            }
        }
    }
}

fn create(remote: &Remote, folder: &Folder) -> Result<(), Failure> {
    let snapshot = remote.post(&path(&["snapshots"]), &json!({}))?;
    let source: Source = serde_json::from_value(snapshot)
        .map_err(|error| Failure::Other(format!("the server answers, but not as krocket does: {error}")))?;
    let read = |name: &str, offset: u64| -> Result<Box<dyn Read>, BackupError> {
        let query = Query::default().maybe("offset", Some(offset));
        let file = path(&["snapshots", &source.id, "files", name]);
        remote.read(&file, &query).map_err(|failure| BackupError::Source(failure.to_string()))
    };
    let taken = with_bar(|progress| backup::take(folder, &source, &read, progress));
    // Its lease ends anyway.
    let _ = remote.delete(&path(&["snapshots", &source.id]));
    let taken = taken?;
    let mut answer = row(&taken.manifest);
    answer["copied"] = taken.copied.into();
    remote.done(&answer, &format!("backup {} is complete", taken.manifest.id));
    Ok(())
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = Folder::open(&self.folder, false)?;
        let manifest = folder.find(self.backup.as_deref())?;
        with_bar(|progress| backup::restore(&folder, &manifest, &self.data_dir, progress))?;
        let data = self.data_dir.display();
        say(&format!("backup {} is in {data}; the index is built when it is started:", manifest.id));
        say(&format!("  krocket serve --data-dir {data}"));
        Ok(())
    }
}

fn row(manifest: &Manifest) -> Value {
    json!({
        "id": manifest.id,
        "created_ms": manifest.created_ms,
        "files": manifest.files.len(),
        "bytes": manifest.bytes(),
        "position": manifest.position,
        "cluster": manifest.cluster_id,
        "lineage": manifest.lineage,
        "krocket": manifest.krocket,
    })
}

/// Shows the bytes go by, where there is a terminal to see it.
pub(super) fn with_bar<T>(work: impl FnOnce(backup::Progress<'_>) -> T) -> T {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let result = work(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    result
}
