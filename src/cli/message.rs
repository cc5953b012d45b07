//! `krocket message`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Paging, Remote, path};
use crate::exit::Failure;
use crate::time::{Moment, duration_ms, moment};

#[derive(Args)]
pub(super) struct Message {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a message by its id, such as orders:3:4711.
    Get {
        /// topic:partition:offset
        id: String,
    },
    /// Find messages by UNIQ_KEY, by key, or by topic and time.
    Find(Find),
    /// What became of a message: parked, delivered, retried, dead, consumed by whom.
    Life {
        /// topic:partition:offset
        id: String,
    },
    /// Produce a message.
    Send(Send),
}

#[derive(Args)]
struct Find {
    /// The client's own id of the message.
    #[arg(long, value_name = "KEY", conflicts_with = "key")]
    uniq_key: Option<String>,
    /// A business key (KEYS), or the record key where a rule has it indexed.
    #[arg(long)]
    key: Option<String>,
    /// Only in this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Not before this time.
    #[arg(long, value_parser = moment, allow_hyphen_values = true)]
    from: Option<Moment>,
    /// Before this time.
    #[arg(long, value_parser = moment, allow_hyphen_values = true)]
    to: Option<Moment>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Args)]
struct Send {
    /// The topic.
    topic: String,
    /// The value; without it the message is a tombstone.
    value: Option<String>,
    /// The record key.
    #[arg(long)]
    key: Option<String>,
    /// The partition [default: by key, else in turn].
    #[arg(long)]
    partition: Option<i32>,
    /// A record header; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The record's tag (TAGS).
    #[arg(long)]
    tag: Option<String>,
    /// Deliver after so long (TIMER_DELAY_MS).
    #[arg(long, value_parser = duration_ms, conflicts_with = "at")]
    delay: Option<i64>,
    /// Deliver at this time (TIMER_DELIVER_MS).
    #[arg(long, value_parser = moment)]
    at: Option<Moment>,
}

impl Message {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::Get { id } => remote.show(&remote.get(&path(&["messages", &id]), &Default::default())?),
            Command::Life { id } => remote.show(&remote.get(&path(&["messages", &id, "life"]), &Default::default())?),
            Command::Find(find) => {
                if find.uniq_key.is_none() && find.key.is_none() && find.topic.is_none() {
                    return Err(Failure::Other("say what to find: --uniq-key, --key or --topic".to_owned()));
                }
                let query = find
                    .paging
                    .query()
                    .maybe("uniq_key", find.uniq_key)
                    .maybe("key", find.key)
                    .maybe("topic", find.topic)
                    .maybe("from", find.from.map(|at| at.0))
                    .maybe("to", find.to.map(|at| at.0));
                let found = remote.get(&path(&["messages"]), &query)?;
                let columns = ["id", "timestamp_ms", "timestamp", "state", "key", "tags", "uniq_key", "keys", "value"];
                remote.list(&found, &columns);
            }
            Command::Send(send) => {
                let stored = remote.post(&path(&["messages"]), &send.body()?)?;
                let id = stored.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                match remote.json {
                    true => remote.show(&stored),
                    false => super::say(&id),
                }
            }
        }
        Ok(())
    }
}

impl Send {
    fn body(self) -> Result<Value, Failure> {
        let mut headers = Map::new();
        for header in &self.headers {
            let (name, value) = header
                .split_once('=')
                .ok_or_else(|| Failure::Other(format!("\"{header}\" is not a header: expected NAME=VALUE")))?;
            headers.insert(name.to_owned(), value.into());
        }
        let own = [
            ("TAGS", self.tag),
            ("TIMER_DELAY_MS", self.delay.map(|ms| ms.to_string())),
            ("TIMER_DELIVER_MS", self.at.map(|at| at.0.to_string())),
        ];
        headers.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        Ok(json!({
            "topic": self.topic, "partition": self.partition, "key": self.key, "value": self.value, "headers": headers,
        }))
    }
}
