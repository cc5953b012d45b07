//! The invariants of krocket over a history of what clients saw. It knows nothing of how krocket works.
//!
//! K1 no acknowledged record is lost. K2 no record is there twice, and a producer's sequences have no gap. K3 an offset
//! names the same record for ever; high watermark and log start never go back. K5 a partition has one owner per
//! generation; committed offsets are kept.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Event, Partition, RecordId, Sequences, What};

/// Most violations that are reported: after the first few they repeat.
const MAX_REPORTED: usize = 20;

/// Checks a history whose group events are all of one group. Gives a sentence for each violation.
pub fn check(events: &[Event]) -> Vec<String> {
    let mut by_end: Vec<&Event> = events.iter().collect();
    by_end.sort_by_key(|event| event.completed);
    let mut checker = Checker::default();
    // What an answer proves holds for requests that were sent after it, so all ends are known before anything is judged.
    for event in &by_end {
        checker.learn(event);
    }
    for event in &by_end {
        checker.judge(event);
    }
    checker.violations
}

/// The highest value known at each tick.
#[derive(Default)]
struct Floor(Vec<(u64, i64)>);

impl Floor {
    /// Values come in the order of their ticks.
    fn raise(&mut self, completed: u64, value: i64) {
        let highest = self.0.last().map_or(i64::MIN, |last| last.1);
        self.0.push((completed, highest.max(value)));
    }

    /// The highest value of anything that ended before this tick.
    fn before(&self, tick: u64) -> i64 {
        let count = self.0.partition_point(|entry| entry.0 < tick);
        count.checked_sub(1).map_or(i64::MIN, |last| self.0[last].1)
    }
}

#[derive(Default)]
struct Log {
    /// What each offset names, and the tick since which that is known.
    names: BTreeMap<i64, (RecordId, u64)>,
    high_watermark: Floor,
    log_start: Floor,
}

#[derive(Default)]
struct Commits {
    acked: Floor,
    /// Offset and the tick at which it was sent.
    sent: Vec<(i64, u64)>,
}

#[derive(Default)]
struct Checker {
    logs: HashMap<Partition, Log>,
    offsets: HashMap<RecordId, (Partition, i64)>,
    commits: HashMap<Partition, Commits>,
    owners: HashMap<(i32, Partition), String>,
    violations: Vec<String>,
}

impl Checker {
    fn violation(&mut self, message: impl FnOnce() -> String) {
        if self.violations.len() < MAX_REPORTED {
            self.violations.push(message());
        }
    }

    fn learn(&mut self, event: &Event) {
        let completed = event.completed;
        match &event.what {
            What::Acked { partition, base_offset: Some(base), first, count, acks } => {
                for at in 0..u64::from(*count) {
                    let id = RecordId { number: first.number + at, ..*first };
                    self.learn_name(*partition, base + at as i64, id, completed);
                }
                if *acks == -1 {
                    self.log(*partition).high_watermark.raise(completed, base + i64::from(*count));
                }
            }
            What::Read { partition, records, high_watermark, log_start }
            | What::Scan { partition, records, high_watermark, log_start, .. } => {
                for (offset, id) in records {
                    match id {
                        Some(id) => self.learn_name(*partition, *offset, *id, completed),
                        None => {
                            self.violation(|| format!("K3: {partition:?} offset {offset} is nothing that was sent"))
                        }
                    }
                }
                let log = self.log(*partition);
                log.high_watermark.raise(completed, *high_watermark);
                log.log_start.raise(completed, *log_start);
            }
            What::Commit { partition, offset } => {
                let commits = self.commits.entry(*partition).or_default();
                commits.sent.push((*offset, event.invoked));
                if completed != u64::MAX {
                    commits.acked.raise(completed, *offset);
                }
            }
            What::Owns { generation, member, partitions } => {
                for partition in partitions {
                    let owner = self.owners.entry((*generation, *partition)).or_insert_with(|| member.clone());
                    if owner != member {
                        let owner = owner.clone();
                        self.violation(|| {
                            format!("K5: {partition:?} has two owners in generation {generation}: {owner} and {member}")
                        });
                    }
                }
            }
            What::Trimmed { partition, log_start } => self.log(*partition).log_start.raise(completed, *log_start),
            What::Acked { .. } | What::Refused { .. } | What::Committed { .. } => {}
        }
    }

    fn learn_name(&mut self, partition: Partition, offset: i64, id: RecordId, completed: u64) {
        let known = self.log(partition).names.entry(offset).or_insert((id, completed)).0;
        if known != id {
            self.violation(|| format!("K3: {partition:?} offset {offset} named {known:?} and then {id:?}"));
        }
        let place = *self.offsets.entry(id).or_insert((partition, offset));
        if place != (partition, offset) {
            self.violation(|| format!("K2: {id:?} is at {place:?} and at {:?}", (partition, offset)));
        }
    }

    fn log(&mut self, partition: Partition) -> &mut Log {
        self.logs.entry(partition).or_default()
    }

    fn judge(&mut self, event: &Event) {
        match &event.what {
            What::Refused { partition, first, code } => {
                self.violation(|| format!("{partition:?} refused {first:?} with error {code}"));
            }
            What::Read { partition, high_watermark, log_start, .. } => {
                self.judge_bounds(event, *partition, *high_watermark, *log_start);
            }
            What::Scan { partition, records, sequences, high_watermark, log_start } => {
                self.judge_bounds(event, *partition, *high_watermark, *log_start);
                self.judge_scan(event, *partition, records, *high_watermark, *log_start);
                self.judge_sequences(*partition, sequences, *log_start);
            }
            What::Committed { partition, offset } => self.judge_committed(event, *partition, *offset),
            What::Acked { partition, base_offset: None, first, count, .. } => {
                // Where it is comes from scans; that it is somewhere was promised.
                let lost = (0..u64::from(*count)).map(|at| RecordId { number: first.number + at, ..*first });
                let lost: Vec<_> = lost.filter(|id| !self.offsets.contains_key(id)).collect();
                if let Some(id) = lost.first().filter(|_| self.scanned_after(*partition, event.completed)) {
                    self.violation(|| format!("K1: {partition:?} acknowledged {id:?} as a duplicate and has lost it"));
                }
            }
            What::Acked { .. } | What::Commit { .. } | What::Owns { .. } | What::Trimmed { .. } => {}
        }
    }

    /// True when a later read of the partition is known. (High watermarks come from reads and acknowledgements.)
    fn scanned_after(&self, partition: Partition, tick: u64) -> bool {
        self.logs.get(&partition).is_some_and(|log| log.log_start.0.last().is_some_and(|last| last.0 > tick))
    }

    fn judge_bounds(&mut self, event: &Event, partition: Partition, high_watermark: i64, log_start: i64) {
        let log = self.log(partition);
        let (high_floor, start_floor) = (log.high_watermark.before(event.invoked), log.log_start.before(event.invoked));
        if high_watermark < high_floor {
            self.violation(|| {
                format!("K3: {partition:?} high watermark {high_watermark} after {high_floor} was known")
            });
        }
        if log_start < start_floor {
            self.violation(|| format!("K3: {partition:?} log start {log_start} after {start_floor} was known"));
        }
    }

    fn judge_scan(
        &mut self,
        event: &Event,
        partition: Partition,
        records: &[(i64, Option<RecordId>)],
        high_watermark: i64,
        log_start: i64,
    ) {
        let there: BTreeMap<i64, Option<RecordId>> = records.iter().copied().collect();
        let known = self.log(partition).names.range(log_start..);
        let lost: Vec<_> = known
            .filter(|(offset, (_, since))| *since < event.invoked && !there.contains_key(offset))
            .map(|(offset, (id, _))| (*offset, *id))
            .collect();
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            let count = lost.len();
            self.violation(|| format!("K1: {partition:?} lost {count} known records, from {first:?} to {last:?}"));
        }
        let offsets: Vec<i64> = records.iter().map(|record| record.0).collect();
        if !offsets.iter().copied().eq(log_start..high_watermark) {
            self.violation(|| {
                format!(
                    "K3: {partition:?} from {log_start} to {high_watermark} has {} offsets, from {:?} to {:?}",
                    offsets.len(),
                    offsets.first(),
                    offsets.last()
                )
            });
        }
        let mut last = HashMap::new();
        for id in records.iter().filter_map(|record| record.1) {
            if let Some(earlier) = last.insert(id.producer, id.number).filter(|earlier| *earlier >= id.number) {
                self.violation(|| format!("K2: {partition:?} has {id:?} after its number {earlier}"));
            }
        }
    }

    fn judge_sequences(&mut self, partition: Partition, batches: &[Sequences], log_start: i64) {
        let mut next = HashMap::new();
        for batch in batches.iter().filter(|batch| batch.producer_id >= 0) {
            let expected = next.insert((batch.producer_id, batch.producer_epoch), batch.base_sequence + batch.count);
            let first = if log_start == 0 { 0 } else { batch.base_sequence };
            if expected.unwrap_or(first) != batch.base_sequence {
                self.violation(|| format!("K2: {partition:?} has {batch:?} where sequence {expected:?} was due"));
            }
        }
    }

    fn judge_committed(&mut self, event: &Event, partition: Partition, offset: i64) {
        let commits = self.commits.entry(partition).or_default();
        let floor = commits.acked.before(event.invoked).max(-1);
        let sent = commits.sent.iter().any(|(sent, tick)| *sent == offset && *tick < event.completed);
        if offset < floor {
            self.violation(|| format!("K5: {partition:?} committed offset {offset} after {floor} was acknowledged"));
        } else if offset != -1 && !sent {
            self.violation(|| format!("K5: {partition:?} committed offset {offset} was never sent"));
        }
    }
}

#[cfg(test)]
mod tests;
