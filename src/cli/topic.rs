//! `krocket topic`

use clap::{Args, Subcommand};

use super::client::{Paging, Remote, path};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Topic {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All topics.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// One topic: its partitions' offsets and the configs set on it.
    Show {
        /// The topic.
        name: String,
    },
}

impl Topic {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::List { paging } => {
                remote.list(&remote.get(&path(&["topics"]), &paging.query())?, &["name", "partitions", "id"]);
            }
            Command::Show { name } => remote.show(&remote.get(&path(&["topics", &name]), &Default::default())?),
        }
        Ok(())
    }
}
