//! `krocket verify`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use krocket_broker::log::tables::TOPICS;
use krocket_store::{Damage, Inspection, Verdict, distrust_index};
use serde_json::{Value, json};

use super::backup::with_bar;
use super::{say, table};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct Verify {
    /// The data folder; no krocket may run on it.
    #[arg(long, value_name = "FOLDER", default_value = "./krocket-data")]
    data_dir: PathBuf,
    /// Have the next start build the index anew from the log.
    #[arg(long)]
    rebuild_index: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        let cannot = |error: krocket_store::StoreError| Failure::Other(error.to_string());
        if self.rebuild_index {
            distrust_index(&self.data_dir).map_err(cannot)?;
            say("the next start builds the index anew");
            return Ok(());
        }
        let inspection = Inspection::open(&self.data_dir).map_err(cannot)?;
        let verdict = with_bar(|progress| inspection.verify(progress)).map_err(cannot)?;
        let report = report(&verdict, &names(&inspection));
        match self.json {
            true => say(&serde_json::to_string_pretty(&report).unwrap_or_default()),
            false => say(&table::object(&report)),
        }
        match advice(&verdict, &self.data_dir) {
            None => Ok(()),
            Some(advice) => Err(Failure::Other(advice)),
        }
    }
}

/// Partitions by their number in the log.
fn names(inspection: &Inspection) -> HashMap<u32, (String, usize)> {
    let rows = inspection.index().map(|index| index.scan(TOPICS, b""));
    let mut names = HashMap::new();
    for (key, value) in rows.into_iter().flatten().flatten() {
        let topic = String::from_utf8_lossy(&key).into_owned();
        for (index, partition) in krocket_broker::topics::partitions_of(&value).into_iter().enumerate() {
            names.insert(partition, (topic.clone(), index));
        }
    }
    names
}

fn report(verdict: &Verdict, names: &HashMap<u32, (String, usize)>) -> Value {
    let places = |parts: &[Damage]| {
        let place = |part: &Damage| json!({ "file": part.path.display().to_string(), "offset": part.offset, "bytes": part.len, "reason": part.reason });
        parts.iter().map(place).collect::<Vec<_>>()
    };
    let lost = verdict.lost.iter().map(|lost| {
        let (topic, partition) = names.get(&lost.partition).cloned().unzip();
        json!({
            "topic": topic, "partition": partition, "first_offset": lost.first_offset, "last_offset": lost.last_offset,
        })
    });
    json!({
        "sound": verdict.is_sound(),
        "segments": verdict.segments,
        "frames": verdict.frames,
        "batches": verdict.batches,
        "bytes": verdict.bytes,
        "index": verdict.index_unusable.as_deref().unwrap_or("usable"),
        "index_rows": verdict.rows,
        "confirmed_rows": verdict.confirmed,
        "unindexed_bytes": verdict.behind,
        "damaged": places(&verdict.damaged),
        "torn": places(&verdict.torn),
        "lost": lost.collect::<Vec<_>>(),
        "more_lost": verdict.more_lost,
    })
}

/// What to do; nothing when all is well.
fn advice(verdict: &Verdict, data: &Path) -> Option<String> {
    if verdict.is_sound() {
        return None;
    }
    let rebuild = format!("krocket verify --rebuild-index --data-dir {}", data.display());
    Some(if !verdict.lost.is_empty() {
        "records are lost to damage: restore a backup, or start all the same; what is listed is skipped, the rest is served"
            .to_owned()
    } else if let Some(reason) = &verdict.index_unusable {
        format!("the index cannot be used ({reason}): the next start builds it anew")
    } else if verdict.rows > verdict.confirmed {
        let count = verdict.rows - verdict.confirmed;
        format!("{count} rows of the index have nothing behind them in the log: have it built anew with {rebuild}")
    } else {
        "parts of the log are damaged, but nothing that can be read lies there: the next start copes with it".to_owned()
    })
}
