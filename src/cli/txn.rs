//! `krocket txn`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Paging, Remote, path};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Txn {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Half messages that nobody has committed or rolled back.
    List {
        /// Only of this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Only in this state, pending or set_aside.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Deliver it.
    Commit {
        /// topic:partition:offset
        id: String,
    },
    /// Never deliver it.
    Rollback {
        /// topic:partition:offset
        id: String,
    },
    /// Ask its producer group again.
    Resume {
        /// topic:partition:offset
        id: String,
    },
}

impl Txn {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        let end = |id: &str, how: &str, sentence: &str| {
            let answer = remote.post(&path(&["transactions", id, how]), &json!({}))?;
            remote.done(&answer, &format!("{id} {sentence}"));
            Ok(())
        };
        match self.command {
            Command::List { topic, state, paging } => {
                let query = paging.query().maybe("topic", topic).maybe("state", state);
                let columns = ["id", "producer_group", "state", "checks", "check_ms", "uniq_key"];
                remote.list(&remote.get(&path(&["transactions"]), &query)?, &columns);
                Ok(())
            }
            Command::Commit { id } => end(&id, "commit", "is committed"),
            Command::Rollback { id } => end(&id, "rollback", "is rolled back"),
            Command::Resume { id } => end(&id, "resume", "is checked again"),
        }
    }
}
