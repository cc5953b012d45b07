//! Dead letters: listed, sent back, removed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use krocket_config::rules::Live;
use krocket_features::headers::{MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID, REAL_TOPIC, RECONSUME_TIMES};
use krocket_features::{MessageId, admin, escape};
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Record, Records};
use krocket_protocol::{ApiKey, StrBytes};
use krocket_stack::ledger::{TopicInfo, tables};
use krocket_stack::{Handler, Ledger, LedgerError, Notes, Row};
use parking_lot::Mutex;

use crate::attempts::REDRIVEN;
use crate::nack::DLQ_TOPIC;

const DELETE_RECORDS: i16 = 2;
const READ_BYTES: usize = 1 << 20;
/// On a redriven message: when, epoch ms.
const REDRIVEN_AT: &str = "REDRIVEN_AT";

/// Keeps a broken consumer from flooding its dead-letter topic: beyond so many a minute the rest wait for the next.
#[derive(Debug, Default)]
pub(crate) struct Brake(Mutex<HashMap<String, (i64, u32)>>);

impl Brake {
    /// How long the next dead letter of the group waits, ms.
    pub(crate) fn wait_ms(&self, group: &str, limit: u32, now: i64) -> i64 {
        const MINUTE: i64 = 60_000;
        let mut groups = self.0.lock();
        let minute = now / MINUTE;
        let (current, count) = groups.entry(group.to_owned()).or_insert((minute, 0));
        if *current < minute {
            (*current, *count) = (minute, 0);
        }
        if *count >= limit.max(1) {
            if *current <= minute {
                tracing::warn!(group, limit, "dead letters come faster than max_dead_per_minute: they wait");
            }
            (*current, *count) = (*current + 1, 0);
        }
        *count += 1;
        (*current * MINUTE - now).max(0)
    }
}

/// How far a redrive is.
#[derive(Debug, Default)]
struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

/// The dead letters of all groups.
pub struct DeadLetters {
    pub(crate) ledger: Arc<dyn Ledger>,
    rules: Live,
    next: Arc<dyn Handler>,
    /// One redrive of a group at a time.
    busy: Mutex<HashMap<String, Arc<Progress>>>,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    pub(crate) ids: Option<Vec<MessageId>>,
    /// Died at this epoch ms or later.
    pub(crate) from: i64,
    /// Died before this epoch ms.
    pub(crate) to: i64,
}

/// One dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) id: MessageId,
    pub(crate) at: (u32, i64),
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Letter {
    fn new(id: MessageId, partition: u32, record: &Record<'_>) -> Self {
        let headers = record.headers().map_while(Result::ok);
        Letter {
            id,
            at: (partition, record.offset),
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
        }
    }

    /// Text of the last header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name.as_bytes())?;
        found.1.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn fact(&self) -> Vec<u8> {
        [REDRIVEN, &self.at.0.to_be_bytes(), &self.at.1.to_be_bytes()].concat()
    }
}

impl DeadLetters {
    /// Read from the ledger, sent through `next`.
    pub fn new(ledger: Arc<dyn Ledger>, rules: Live, next: Arc<dyn Handler>) -> Arc<Self> {
        Arc::new(DeadLetters { ledger, rules, next, busy: Mutex::default() })
    }

    /// Groups with a dead-letter topic.
    pub(crate) fn groups(&self) -> Vec<(String, TopicInfo)> {
        let prefix = self.rules.get().prefixes.dlq.clone();
        let topics = self.ledger.topics().into_iter();
        topics.filter_map(|topic| Some((escape::group(&prefix, &topic.name)?, topic))).collect()
    }

    pub(crate) fn topic(&self, group: &str) -> Option<TopicInfo> {
        self.ledger.topic(&escape::topic(&self.rules.get().prefixes.dlq, group)?)
    }

    /// Shows dead letters from a place on, in the order of partitions and offsets, until the visitor returns false.
    pub(crate) fn visit(
        &self,
        topic: &TopicInfo,
        from: Option<(i32, i64)>,
        visit: &mut dyn FnMut(Letter) -> bool,
    ) -> Result<(), LedgerError> {
        let (first, offset) = from.unwrap_or((0, 0));
        for (index, partition) in (0..).zip(&topic.partitions).filter(|(index, _)| *index >= first) {
            let Some(info) = self.ledger.partition(*partition) else { continue };
            let mut position = if index == first { offset.max(info.log_start) } else { info.log_start };
            while position < info.high_watermark {
                let stored = self.ledger.batches(*partition, position, READ_BYTES)?;
                if stored.is_empty() {
                    break;
                }
                for stored in stored {
                    let Ok(header) = BatchHeader::read(&stored.batch) else { break };
                    position = position.max(header.last_offset() + 1);
                    let Ok(records) = Records::open(&stored.batch, &header, MAX_DECOMPRESSED) else { continue };
                    for record in records.iter().map_while(Result::ok) {
                        let shown = index > first || record.offset >= offset;
                        let seen = record.offset >= info.log_start && record.offset < info.high_watermark && shown;
                        if !seen || stored.hidden.binary_search(&record.offset).is_ok() {
                            continue;
                        }
                        let id = MessageId { topic: topic.name.to_string(), partition: index, offset: record.offset };
                        if !visit(Letter::new(id, *partition, &record)) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// True for a dead letter that was sent back before.
    pub(crate) fn was_redriven(&self, letter: &Letter) -> Result<bool, LedgerError> {
        Ok(self.ledger.get(tables::FACTS, &letter.fact())?.is_some())
    }

    fn chosen(&self, topic: &TopicInfo, which: &Which) -> Result<Vec<Letter>, LedgerError> {
        let mut chosen = Vec::new();
        self.visit(topic, None, &mut |letter| {
            let named = which.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id));
            if named && (which.from..which.to).contains(&letter.timestamp) {
                chosen.push(letter);
            }
            true
        })?;
        Ok(chosen)
    }

    /// Sends dead letters back to the topic that they came from, at most so many a second. Each goes once: sent and noted
    /// in one frame. How many went, and how many had gone before.
    pub(crate) async fn redrive(
        self: &Arc<Self>,
        group: &str,
        topic: TopicInfo,
        which: Which,
        rate: Option<u32>,
    ) -> Result<(u64, u64), String> {
        let progress = Arc::new(Progress::default());
        match self.busy.lock().entry(group.to_owned()) {
            Entry::Occupied(_) => return Err(format!("the dead letters of {group} are being redriven already")),
            Entry::Vacant(free) => drop(free.insert(progress.clone())),
        }
        let outcome = self.redrive_now(topic, which, rate, &progress).await;
        self.busy.lock().remove(group);
        outcome
    }

    async fn redrive_now(
        self: &Arc<Self>,
        topic: TopicInfo,
        which: Which,
        rate: Option<u32>,
        progress: &Progress,
    ) -> Result<(u64, u64), String> {
        let letters = self.clone();
        let chosen = tokio::task::spawn_blocking(move || letters.chosen(&topic, &which)).await;
        let chosen = chosen.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let pause = rate.map(|rate| Duration::from_secs_f64(1.0 / f64::from(rate.max(1))));
        let (mut redriven, mut skipped) = (0, 0);
        progress.total.store(chosen.len() as u64, Ordering::Release);
        for letter in chosen {
            progress.done.store(redriven + skipped, Ordering::Release);
            if self.was_redriven(&letter).map_err(|error| error.to_string())? {
                skipped += 1;
                continue;
            }
            self.send(&letter)
                .await
                .map_err(|error| format!("{}: {error} ({redriven} were redriven before it)", letter.id))?;
            redriven += 1;
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        Ok((redriven, skipped))
    }

    /// How many dead letters of a group have been redriven, and of how many, while that goes on.
    pub(crate) fn progress(&self, group: &str) -> Option<(u64, u64)> {
        let progress = self.busy.lock().get(group).cloned()?;
        Some((progress.done.load(Ordering::Acquire), progress.total.load(Ordering::Acquire)))
    }

    async fn send(&self, letter: &Letter) -> Result<(), String> {
        let real = letter
            .header(REAL_TOPIC)
            .or_else(|| letter.header(DLQ_TOPIC))
            .ok_or("it does not say where it came from")?;
        let info = self.ledger.topic(&real).ok_or_else(|| format!("its topic {real} is gone"))?;
        let origin: Option<MessageId> = letter.header(ORIGIN_MESSAGE_ID).and_then(|id| id.parse().ok());
        // The partition that it came from keeps the order of its key.
        let index = origin.filter(|id| id.topic == real).map_or(letter.id.partition, |id| id.partition);
        let index = index.rem_euclid(info.partitions.len().max(1) as i32);
        let now = self.ledger.now_ms();
        let at = now.to_string();
        let gone = |name: &[u8]| {
            name.starts_with(b"__dlq.errors.") || name.starts_with(b"DLQ_ORIGIN_") || name == RECONSUME_TIMES.as_bytes()
        };
        let own = letter.headers.iter().filter(|(name, _)| !gone(name));
        let headers: Vec<Header<'_>> = own
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .chain([Header { key: REDRIVEN_AT.as_bytes(), value: Some(at.as_bytes()) }])
            .collect();
        let mut batch = BatchBuilder::new(0, now);
        batch.push(0, now, letter.key.as_deref(), letter.value.as_deref(), &headers);
        let batch = batch.finish(LastOffset::Trim).map_err(|error| error.to_string())?.ok_or("no record")?;
        let notes = Notes { rows: vec![Row::put(tables::FACTS, letter.fact(), at.into_bytes())], ..Notes::default() };
        admin::produce(&*self.next, (&real, index), batch, notes, true).await
    }

    /// Removes dead letters from the front of their topic: all, or those that died before a time. How many.
    pub(crate) async fn purge(self: &Arc<Self>, topic: TopicInfo, to: i64) -> Result<u64, String> {
        let (letters, counted) = (self.clone(), topic.clone());
        let ends = tokio::task::spawn_blocking(move || {
            let mut ends: HashMap<i32, (i64, u64)> = HashMap::new();
            let mut stopped: std::collections::HashSet<i32> = std::collections::HashSet::new();
            letters.visit(&counted, None, &mut |letter| {
                if letter.timestamp >= to {
                    stopped.insert(letter.id.partition);
                } else if !stopped.contains(&letter.id.partition) {
                    let end = ends.entry(letter.id.partition).or_default();
                    *end = (letter.id.offset + 1, end.1 + 1);
                }
                true
            })?;
            Ok::<_, LedgerError>(ends)
        });
        let ends = ends.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let partitions = ends
            .iter()
            .map(|(index, (end, _))| DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*end));
        let of_topic = DeleteRecordsTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.name.to_string())))
            .with_partitions(partitions.collect());
        let request = DeleteRecordsRequest::default().with_topics(vec![of_topic]).with_timeout_ms(30_000);
        let response: DeleteRecordsResponse = admin::call(&*self.next, ApiKey::DeleteRecords, DELETE_RECORDS, request)
            .await
            .map_err(|error| error.to_string())?;
        let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        match answers.find(|answer| answer.error_code != 0) {
            Some(answer) => Err(format!("partition {}: error {}", answer.partition_index, answer.error_code)),
            None => Ok(ends.values().map(|(_, count)| count).sum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_spreads_a_flood_over_the_minutes() {
        let brake = Brake::default();
        let now = 600_000;
        let waits: Vec<i64> = (0..7).map(|_| brake.wait_ms("g", 3, now)).collect();
        assert_eq!(waits, [0, 0, 0, 60_000, 60_000, 60_000, 120_000]);
        assert_eq!(brake.wait_ms("other", 3, now), 0);
        assert_eq!(brake.wait_ms("g", 3, now + 180_000), 0, "a quiet minute later");
    }
}
