//! `krocket group`

use clap::{Args, Subcommand};

use super::client::{Paging, Remote, path};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Group {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All consumer and share groups.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// One group: members, committed offsets, ends and lag.
    Show {
        /// The group's id.
        group: String,
    },
}

impl Group {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::List { paging } => {
                remote.list(&remote.get(&path(&["groups"]), &paging.query())?, &["group", "type", "state"]);
            }
            Command::Show { group } => remote.show(&remote.get(&path(&["groups", &group]), &Default::default())?),
        }
        Ok(())
    }
}
