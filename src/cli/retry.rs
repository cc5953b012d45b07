//! `krocket retry`

use clap::{Args, Subcommand};

use super::client::{Paging, Remote, path};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Retry {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A group's messages that wait for their next attempt.
    List {
        /// The consumer group.
        group: String,
        #[command(flatten)]
        paging: Paging,
    },
}

impl Retry {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::List { group, paging } => {
                let columns = ["id", "origin_message_id", "real_topic", "reconsume_times", "due_ms", "dead", "reason"];
                remote.list(&remote.get(&path(&["retry", &group]), &paging.query())?, &columns);
            }
        }
        Ok(())
    }
}
