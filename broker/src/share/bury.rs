//! Dead letters of share groups (KIP-1191): written and forgotten in one frame, so each exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;

use krocket_protocol::records::builder::LastOffset;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, Record};
use krocket_stack::{Notes, Row};

use super::metrics::METRICS;
use super::partition::SharePartition;
use super::policy::Policy;
use super::rows;
use super::window::{Cause, Delivered, Run, State};
use super::{Shares, piece};
use crate::log::{Append, Durability, Partition, Range, StorageError, tables};
use crate::topics::{Edit, NewTopic, Topic, name};

/// Records that are buried with one batch, at most.
const AT_ONCE: i64 = 500;

impl Shares {
    /// Writes what is dead to the group's dead-letter topic. What fails is tried again with the next change.
    pub(super) async fn bury(&self, partition: &Arc<SharePartition>, policy: &Policy) {
        if partition.next_dead().is_none() {
            return;
        }
        if let Err(error) = self.bury_all(partition, policy).await {
            tracing::error!(
                error,
                group = &*partition.group,
                topic = partition.topic_name,
                "dead letters cannot be written"
            );
        }
    }

    async fn bury_all(&self, partition: &Arc<SharePartition>, policy: &Policy) -> Result<(), String> {
        let _turn = partition.burying.lock().await;
        while let Some((run, cause)) = partition.next_dead() {
            let run = Delivered { last: run.last.min(run.first + AT_ONCE - 1), ..run };
            // The policy may have changed since: then nobody wants them.
            if let Some(name) = &policy.dead_letters {
                let topic = self.dead_letter_topic(name).await?;
                let at = partition.index % topic.partition_count().max(1);
                let into = topic.partition(at).ok_or("the dead-letter topic has no partitions")?;
                self.write_dead(partition, into, run, cause, policy.copies).await?;
            }
            partition.buried(run);
        }
        // The start may have moved.
        partition.change(&self.log, policy, |_, _| ()).await.map(drop).map_err(|error| error.to_string())
    }

    async fn write_dead(
        &self,
        partition: &Arc<SharePartition>,
        into: Arc<Partition>,
        run: Delivered,
        cause: Cause,
        copies: bool,
    ) -> Result<(), String> {
        let (from, log, now_ms) = (partition.clone(), self.log.clone(), self.log.clock().now_ms());
        let build = tokio::task::spawn_blocking(move || {
            let mut letters =
                Letters { from: &from, run, cause, copies, builder: BatchBuilder::new(0, now_ms), now_ms };
            let mut at = run.first;
            while at <= run.last {
                let range = Range { offset: at, up_to: run.last + 1, max_bytes: 1 << 20, at_least_one: true };
                let read = piece::pieces(log.read(&from.partition, range)?.chunks)?;
                if read.is_empty() {
                    break;
                }
                for piece in read {
                    at = piece.last() + 1;
                    for record in &piece.records()? {
                        let record = record.map_err(StorageError::unreadable)?;
                        if (run.first..=run.last).contains(&record.offset) {
                            letters.add(&record);
                        }
                    }
                }
            }
            letters.builder.finish(LastOffset::Trim).map_err(StorageError::unreadable)
        });
        let built = build.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        // Retention may have been faster.
        let Some(batch) = built else { return Ok(()) };
        let header = BatchHeader::read(&batch).map_err(|error| error.to_string())?;
        let done = Run { last: run.last, state: State::Done, count: run.count };
        let mut rows = vec![Row::put(tables::SHARES, partition.key(run.first), rows::encode(&done))];
        // Of a long run the rest stays to be buried.
        if let Some(rest) = partition.dead_after(run) {
            rows.push(Row::put(tables::SHARES, partition.key(run.last + 1), rows::encode(&rest)));
        }
        let notes = Notes { rows, ..Notes::default() };
        let append = Append { partition: into, batch, header, durability: Durability::Written, notes };
        self.log.append(append).await.map_err(|error| error.to_string())?;
        METRICS.dead.inc_by(run.len().unsigned_abs());
        Ok(())
    }

    /// The topic, made where there is none.
    async fn dead_letter_topic(&self, topic: &str) -> Result<Arc<Topic>, String> {
        loop {
            if let Some(found) = self.topics.get(topic) {
                return Ok(found);
            }
            name::check(topic).map_err(|why| format!("{topic} cannot be a dead-letter topic: {why}"))?;
            let change = self.topics.change().await;
            if self.topics.get(topic).is_none() {
                let new =
                    NewTopic { name: topic.to_owned(), id: change.new_id(), partitions: 1, configs: BTreeMap::new() };
                change.commit(vec![Edit::Create(new)]).await.map_err(|error| error.to_string())?;
            }
        }
    }
}

/// A batch of dead letters in the making.
struct Letters<'a> {
    from: &'a SharePartition,
    run: Delivered,
    cause: Cause,
    copies: bool,
    builder: BatchBuilder,
    now_ms: i64,
}

impl Letters<'_> {
    fn add(&mut self, record: &Record<'_>) {
        let from = self.from;
        let (partition, offset, count) =
            (from.index.to_string(), record.offset.to_string(), self.run.count.to_string());
        let message = match self.cause {
            Cause::Rejected => "Record rejected by a consumer".to_owned(),
            Cause::Exhausted => format!("Delivery count limit reached after {count} deliveries"),
        };
        let id = format!("{}:{partition}:{offset}", from.topic_name);
        let own = [
            ("__dlq.errors.topic", from.topic_name.as_str()),
            ("__dlq.errors.partition", &partition),
            ("__dlq.errors.offset", &offset),
            ("__dlq.errors.group", &from.group),
            ("__dlq.errors.delivery.count", &count),
            ("__dlq.errors.message", &message),
            // What dead letters of classic groups have too: tools redrive by these.
            ("REAL_TOPIC", from.topic_name.as_str()),
            ("ORIGIN_MESSAGE_ID", &id),
        ];
        let is_own = |name: &[u8]| own.iter().any(|(own, _)| own.as_bytes() == name);
        let mut headers: Vec<Header<'_>> = Vec::new();
        if self.copies {
            headers.extend(record.headers().map_while(Result::ok).filter(|header| !is_own(header.key)));
        }
        headers.extend(own.iter().map(|(name, value)| Header { key: name.as_bytes(), value: Some(value.as_bytes()) }));
        let (key, value) = if self.copies { (record.key, record.value) } else { (None, None) };
        self.builder.push(i64::from(self.builder.count()), self.now_ms, key, value, &headers);
    }
}
