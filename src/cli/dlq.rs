//! `krocket dlq`

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::client::{Paging, Remote, path};
use crate::exit::Failure;
use crate::time::{Moment, moment};

#[derive(Args)]
pub(super) struct Dlq {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Groups with dead letters, and how many.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// A group's dead letters: from where, why, after how many attempts.
    Show {
        /// The consumer group.
        group: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Give dead letters to the group again.
    Redrive {
        /// The consumer group.
        group: String,
        #[command(flatten)]
        which: Which,
        /// At most so many a second.
        #[arg(long)]
        rate: Option<u32>,
    },
    /// Remove dead letters for good.
    Purge {
        /// The consumer group.
        group: String,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args)]
struct Which {
    /// Message ids, as `dlq show` prints them.
    ids: Vec<String>,
    /// All there are.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Those that died at this time or later.
    #[arg(long, value_parser = moment, allow_hyphen_values = true, conflicts_with_all = ["ids", "all"])]
    from: Option<Moment>,
    /// Those that died before this time.
    #[arg(long, value_parser = moment, allow_hyphen_values = true, conflicts_with_all = ["ids", "all"])]
    to: Option<Moment>,
}

impl Which {
    fn body(self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        if !self.ids.is_empty() {
            body.insert("ids".to_owned(), self.ids.into());
        }
        if self.all {
            body.insert("all".to_owned(), true.into());
        }
        for (name, at) in [("from", self.from), ("to", self.to)] {
            body.extend(at.map(|at| (name.to_owned(), at.0.into())));
        }
        if body.is_empty() {
            return Err(Failure::Other("say which dead letters: ids, --all, or --from and --to".to_owned()));
        }
        Ok(body)
    }
}

impl Dlq {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::List { paging } => {
                let columns = ["group", "topic", "messages", "count", "dead", "first_ms", "last_ms"];
                remote.list(&remote.get(&path(&["dlq"]), &paging.query())?, &columns);
            }
            Command::Show { group, paging } => {
                let columns = [
                    "id",
                    "origin",
                    "origin_message_id",
                    "real_topic",
                    "reconsume_times",
                    "attempts",
                    "dead_ms",
                    "timestamp_ms",
                    "reason",
                    "error",
                    "key",
                    "value",
                ];
                remote.list(&remote.get(&path(&["dlq", &group]), &paging.query())?, &columns);
            }
            Command::Redrive { group, which, rate } => {
                let mut body = which.body()?;
                body.extend(rate.map(|rate| ("rate".to_owned(), rate.into())));
                let path = path(&["dlq", &group, "redrive"]);
                let answer = remote.post_long(&path, &Value::Object(body), &path)?;
                remote.done(&answer, "redriven");
            }
            Command::Purge { group, which } => {
                let answer = remote.post(&path(&["dlq", &group, "purge"]), &Value::Object(which.body()?))?;
                remote.done(&answer, "purged");
            }
        }
        Ok(())
    }
}
