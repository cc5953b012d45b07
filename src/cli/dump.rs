//! `krocket dump`

use std::path::PathBuf;

use clap::Args;
use krocket_store::{Found, Op};
use serde_json::{Value, json};

use super::say;
use crate::exit::Failure;

/// Bytes of a key or value that are shown.
const SHOWN: usize = 64;

#[derive(Args)]
pub(super) struct Dump {
    /// A file of the folder `log`, or of a backup.
    file: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only batches of this partition, by its number in the log.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

impl Dump {
    pub(super) fn run(self) -> Result<(), Failure> {
        let walked = krocket_store::walk(&self.file, &mut |found| match found {
            Found::Frame { offset, len, position, synced, ops } => {
                if ops.is_empty() && self.partition.is_none() {
                    let row = json!({ "op": "seal", "durable_to": synced });
                    self.print(&placed(row, offset, len, position));
                }
                for op in ops.iter().filter(|op| self.wants(op)) {
                    self.print(&described(offset, len, position, op));
                }
            }
            Found::Damage { offset, len, reason } => {
                self.print(&json!({ "offset": offset, "bytes": len, "op": "damage", "reason": reason }));
            }
        });
        walked.map_err(|error| Failure::Other(error.to_string()))
    }

    fn wants(&self, op: &Op<'_>) -> bool {
        self.partition.is_none_or(|wanted| match op {
            Op::Batch(batch) => batch.partition == wanted,
            Op::Drop { partition, .. } => *partition == wanted,
            Op::Put { .. } | Op::Delete { .. } => false,
        })
    }

    fn print(&self, row: &Value) {
        if self.json {
            return say(&row.to_string());
        }
        let fields = row.as_object().into_iter().flatten().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        });
        say(&fields.collect::<Vec<_>>().join(" "));
    }
}

fn described(offset: u64, len: usize, position: u64, op: &Op<'_>) -> Value {
    let row = match op {
        Op::Batch(batch) => json!({
            "op": "batch",
            "partition": batch.partition,
            "base_offset": batch.header.base_offset,
            "last_offset": batch.header.last_offset(),
            "records": batch.header.count,
            "bytes": batch.bytes.len(),
            "max_timestamp": batch.header.max_timestamp,
            "attributes": batch.header.attributes,
            "producer_id": batch.header.producer_id,
            "producer_epoch": batch.header.producer_epoch,
            "base_sequence": batch.header.base_sequence,
            "flags": batch.flags,
        }),
        Op::Put { table, key, value } => {
            json!({ "op": "put", "table": table, "key": text(key), "value": text(value), "bytes": value.len() })
        }
        Op::Delete { table, key } => json!({ "op": "delete", "table": table, "key": text(key) }),
        Op::Drop { partition, first_offset, last_offset } => json!({
            "op": "drop", "partition": partition, "first_offset": first_offset, "last_offset": last_offset,
        }),
    };
    placed(row, offset, len, position)
}

fn placed(mut row: Value, offset: u64, len: usize, position: u64) -> Value {
    row["offset"] = offset.into();
    row["frame_bytes"] = len.into();
    row["position"] = position.into();
    row
}

/// Text as it is, other bytes escaped, cut where it gets long.
fn text(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    if bytes.len() > SHOWN { format!("{shown}...") } else { shown }
}
