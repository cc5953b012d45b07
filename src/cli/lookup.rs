//! `krocket lookup`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Remote, path};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Lookup {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How far the index is behind.
    Status,
    /// Make the index again from the log.
    Rebuild,
}

impl Lookup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::Status => remote.show(&remote.get(&path(&["lookup"]), &Default::default())?),
            Command::Rebuild => {
                let answer = remote.post(&path(&["lookup", "rebuild"]), &json!({}))?;
                remote.done(&answer, "the index is being made again");
            }
        }
        Ok(())
    }
}
