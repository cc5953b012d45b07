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
    /// Make the index again from the log, and wait for that.
    Rebuild,
}

impl Lookup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::Status => remote.show(&remote.get(&path(&["lookup"]), &Default::default())?),
            Command::Rebuild => {
                remote.post(&path(&["lookup", "rebuild"]), &json!({}))?;
                let status = path(&["lookup"]);
                let state = || remote.get(&status, &Default::default());
                remote.follow(&status, || state().is_ok_and(|state| state["state"] == "rebuilding"));
                remote.done(&state()?, "the index was made again");
            }
        }
        Ok(())
    }
}
