//! `krocket schedule`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Paging, Remote, path};
use crate::exit::Failure;
use crate::time::{Moment, moment};

#[derive(Args)]
pub(super) struct Schedule {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pending messages, the next one first.
    List {
        /// Only of this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Only with this UNIQ_KEY.
        #[arg(long, value_name = "KEY")]
        uniq_key: Option<String>,
        /// Due at this time or later.
        #[arg(long, value_parser = moment, allow_hyphen_values = true)]
        from: Option<Moment>,
        /// Due before this time.
        #[arg(long, value_parser = moment, allow_hyphen_values = true)]
        to: Option<Moment>,
        #[command(flatten)]
        paging: Paging,
    },
    /// A pending message with its body.
    Show {
        /// topic:partition:offset
        id: String,
    },
    /// Never deliver it.
    Cancel {
        /// topic:partition:offset
        id: String,
    },
    /// Deliver it at another time.
    Reschedule {
        /// topic:partition:offset
        id: String,
        /// When: a time, or a duration from now.
        #[arg(value_parser = moment)]
        at: Moment,
    },
    /// Deliver it now.
    Fire {
        /// topic:partition:offset
        id: String,
    },
}

impl Schedule {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::List { topic, uniq_key, from, to, paging } => {
                let query = paging
                    .query()
                    .maybe("topic", topic)
                    .maybe("uniq_key", uniq_key)
                    .maybe("from", from.map(|at| at.0))
                    .maybe("to", to.map(|at| at.0));
                let columns = ["id", "deliver_ms", "uniq_key", "target"];
                remote.list(&remote.get(&path(&["scheduled"]), &query)?, &columns);
            }
            Command::Show { id } => remote.show(&remote.get(&path(&["scheduled", &id]), &Default::default())?),
            Command::Cancel { id } => {
                remote.done(&remote.delete(&path(&["scheduled", &id]))?, &format!("{id} is cancelled"));
            }
            Command::Reschedule { id, at } => {
                let answer = remote.post(&path(&["scheduled", &id, "reschedule"]), &json!({"deliver_ms": at.0}))?;
                remote.done(&answer, &format!("{id} is due at {}", crate::time::show(at.0)));
            }
            Command::Fire { id } => {
                let answer = remote.post(&path(&["scheduled", &id, "fire"]), &json!({}))?;
                remote.done(&answer, &format!("{id} is due now"));
            }
        }
        Ok(())
    }
}
