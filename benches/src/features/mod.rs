//! What krocket's features do and what they cost, beside RocketMQ where it has the like; Kafka has none of them.

mod delay;
mod lookup;
mod price;
mod reader;
mod report;
mod retry;
mod rocketmq;
mod view;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use self::report::Numbers;
pub(crate) use self::report::Results;
use self::rocketmq::Peer;
use crate::machine::{self, Machine};
use crate::process::{anonymous_memory, peak_memory};
use crate::server::{Places, check_interrupted};

const PARTITIONS: i32 = 6;
/// Records in a batch of small ones: about 16 KB.
const PER_BATCH: usize = 100;
const MIB: f64 = (1 << 20) as f64;

/// What a row measures.
#[derive(Debug, Clone)]
enum Work {
    Delay { count: usize, seconds: u64 },
    Pending { count: usize },
    Views { count: usize },
    LookUps { count: usize },
    Retries { count: usize },
    Price { size: usize },
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    work: Work,
}

/// Every row, in the order of the tables.
pub(crate) fn rows(quick: bool) -> Vec<Row> {
    let (burst, seconds, pending, view, keyed, retries) = if quick {
        (100_000, 3, 300_000, 200_000, 200_000, 20_000)
    } else {
        (500_000, 10, 10_000_000, 1_000_000, 10_000_000, 200_000)
    };
    let row = |name: String, work| Row { name, work };
    let mut rows = vec![
        row(format!("burst of {burst} within 1 s"), Work::Delay { count: burst, seconds: 1 }),
        row(format!("steady 10000/s for {seconds} s"), Work::Delay { count: 10_000 * seconds as usize, seconds }),
        row(format!("{pending} pending"), Work::Pending { count: pending }),
        row("view".into(), Work::Views { count: view }),
        row(format!("{keyed} keys"), Work::LookUps { count: keyed }),
        row(format!("{retries} retries"), Work::Retries { count: retries }),
    ];
    rows.extend([100, 1000].map(|size| row(format!("price of unused features, {size} B"), Work::Price { size })));
    rows
}

/// Who takes part.
#[derive(Clone, Copy)]
pub(crate) struct Sides {
    pub(crate) krocket: bool,
    pub(crate) rocketmq: bool,
}

/// Measures these rows, krocket and then RocketMQ, and prints a table for each as it comes.
#[allow(clippy::print_stdout, reason = "a command-line program's own words")]
pub(crate) fn run(rows: &[Row], sides: Sides, places: &Places, quick: bool) -> Result<Results> {
    let machine = Machine::describe(&places.data, machine::load());
    let peer = if sides.rocketmq && rows.iter().any(|row| !matches!(row.work, Work::Price { .. })) {
        match Peer::new(places) {
            Ok(peer) => Some(peer),
            Err(why) if sides.krocket => {
                crate::say(&format!("RocketMQ can't be started here, krocket is measured alone: {why:#}"));
                None
            }
            Err(why) => return Err(why.context("RocketMQ can't be started here")),
        }
    } else {
        None
    };
    let label = peer.as_ref().map(|peer| peer.label.clone());
    println!("\nFeatures. {}", machine.line());
    let (mut failures, mut lines) = (Vec::new(), Vec::new());
    for row in rows {
        let mut measured = [Numbers::default(), Numbers::default()];
        let [krocket, rocketmq] = &mut measured;
        let mut outcomes = Vec::new();
        if sides.krocket {
            outcomes.push(("krocket", row.run(places, quick, krocket)));
        }
        check_interrupted()?;
        if let Some(peer) = &peer {
            outcomes.push((peer.label.as_str(), peer.measure(&row.work, rocketmq)));
        }
        check_interrupted()?;
        for (who, outcome) in outcomes {
            if let Err(error) = outcome {
                let failure = format!("{} on {who}: {error:#}", row.name);
                println!("FAILED: {failure}");
                failures.push(failure);
            }
        }
        let [krocket, rocketmq] = &measured;
        let joined = report::join(&row.name, krocket, rocketmq);
        let label = label.as_deref().filter(|_| !rocketmq.is_empty());
        println!("{}\n", report::table(&row.name, label, &joined));
        lines.extend(joined);
    }
    let command = crate::command();
    Ok(Results { date: crate::date(), command, quick, machine, rocketmq: label, failures, lines })
}

impl Row {
    /// krocket's part.
    fn run(&self, places: &Places, quick: bool, numbers: &mut Numbers) -> Result<()> {
        match self.work {
            Work::Delay { count, seconds } => delay::lateness(places, numbers, count, seconds),
            Work::Pending { count } => delay::waiting(places, numbers, count),
            Work::Views { count } => view::views(places, numbers, count),
            Work::LookUps { count } => lookup::lookups(places, numbers, count),
            Work::Retries { count } => retry::retries(places, numbers, count),
            Work::Price { size } => price::price(places, numbers, size, quick),
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A server's memory: at its peak with the pages of files that it maps, and now without them.
fn memory(numbers: &mut Numbers, pid: u32) -> Result<()> {
    numbers.add("peak memory", peak_memory(pid)? / MIB, "MiB");
    numbers.add("memory without mapped files", anonymous_memory(pid)? / MIB, "MiB");
    Ok(())
}
