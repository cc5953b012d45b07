//! Fetch: batches as they lie in the log, with sessions (KIP-227) and an event-driven long poll.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use krocket_protocol::ErrorCode;
use krocket_protocol::fetch::{FetchPartition, FetchResponse};
use krocket_stack::trace::traced;
use krocket_stack::{Body, Error, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::Broker;
use crate::fetch_session::{Asked, Context, TopicKey};
use crate::log::{Batches, Found, LEADER_EPOCH, Log, Partition, Range, StorageError, Watch};

/// First version that names topics by id (KIP-516).
const TOPIC_ID_VERSION: i16 = 13;
/// Most bytes of records in a response (Kafka's broker config fetch.max.bytes).
const MAX_BYTES: usize = 55 << 20;
/// Who is given so much of a partition, and could be given more, will ask for more.
const BULK: usize = 64 << 10;

/// Answers once there are `min_bytes`, something has to be said, or `max_wait_ms` are over.
pub(crate) async fn handle(broker: &Broker, request: Request) -> Result<Response, Error> {
    let (head, request) = request.into_message::<FetchRequest>()?;
    let by_id = head.version >= TOPIC_ID_VERSION;
    let (max_wait, min_bytes) = (request.max_wait_ms, request.min_bytes.max(0) as usize);
    let max_bytes = (request.max_bytes.max(0) as usize).min(MAX_BYTES);
    let read_committed = request.isolation_level == 1;
    let context = begin(broker, request, by_id);
    let targets: Arc<[Target]> = context.asked().iter().map(|asked| Target::find(broker, asked, by_id)).collect();
    let reader = Reader { log: broker.log.clone(), targets, max_bytes, read_committed, by_id };
    let results = if matches!(context, Context::Error(_)) {
        Vec::new()
    } else {
        let deadline = Instant::now() + Duration::from_millis(max_wait.max(0) as u64);
        reader.wait(min_bytes, deadline).await
    };
    broker.log.count_fetched(results.iter().map(FetchPartition::records_len).sum());
    let response: FetchResponse = broker.sessions.finish(context, results, broker.log.clock().now_ms());
    Ok(Response::Body(Body::Fetch(response)))
}

fn begin(broker: &Broker, request: FetchRequest, by_id: bool) -> Context {
    let asked = request.topics.into_iter().flat_map(|topic| {
        let key = TopicKey { name: topic.topic.0, id: topic.topic_id };
        topic.partitions.into_iter().map(move |partition| Asked {
            topic: key.clone(),
            partition: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        })
    });
    let asked = asked.collect();
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let key = TopicKey { name: topic.topic.0, id: topic.topic_id };
        topic.partitions.into_iter().map(move |partition| (key.clone(), partition))
    });
    let forgotten: Vec<_> = forgotten.collect();
    let session = (request.session_id, request.session_epoch);
    broker.sessions.begin(session, by_id, asked, &forgotten, broker.log.clock().now_ms())
}

/// One partition of a request, looked up.
#[derive(Debug)]
struct Target {
    index: i32,
    partition: Result<Arc<Partition>, ErrorCode>,
    offset: i64,
    max_bytes: usize,
    current_leader_epoch: i32,
    last_fetched_epoch: i32,
}

impl Target {
    fn find(broker: &Broker, asked: &Asked, by_id: bool) -> Self {
        let topic = if by_id { broker.topics.by_id(asked.topic.id) } else { broker.topics.get(&asked.topic.name) };
        let partition = match topic {
            Some(topic) => topic.partition(asked.partition).ok_or(ErrorCode::UnknownTopicOrPartition),
            None => Err(unknown(by_id)),
        };
        Target {
            index: asked.partition,
            partition,
            offset: asked.offset,
            max_bytes: asked.max_bytes.max(0) as usize,
            current_leader_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
        }
    }

    /// The partition, if it can be read from where the client is.
    fn check(&self, by_id: bool) -> Result<&Arc<Partition>, ErrorCode> {
        let partition = self.partition.as_ref().map_err(|code| *code)?;
        if partition.is_deleted() {
            return Err(unknown(by_id));
        }
        if self.current_leader_epoch > LEADER_EPOCH {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        if (0..LEADER_EPOCH).contains(&self.current_leader_epoch) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        Ok(partition)
    }

    fn failed(&self, partition: &Partition, error: &StorageError) -> ErrorCode {
        tracing::error!(%error, partition = partition.id, offset = self.offset, "cannot read the log");
        error.code()
    }

    /// Where the client's log and this one part (KIP-595's fields): there is one epoch, and it ends at the log's end.
    fn diverging_epoch(&self, partition: &Partition) -> Option<(i32, i64)> {
        let end = partition.log_end();
        let diverges = self.last_fetched_epoch > LEADER_EPOCH || self.last_fetched_epoch >= 0 && end < self.offset;
        diverges.then_some((LEADER_EPOCH, end))
    }
}

fn unknown(by_id: bool) -> ErrorCode {
    if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition }
}

/// Reads the partitions of one request, as often as it takes.
#[derive(Clone)]
struct Reader {
    log: Log,
    targets: Arc<[Target]>,
    max_bytes: usize,
    read_committed: bool,
    by_id: bool,
}

/// Where records may be read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Memory,
    Disk,
}

/// A partition's part of the response, whose records may have yet to be read.
struct Reading<'a> {
    partition: &'a Arc<Partition>,
    result: FetchPartition,
    /// Where its records end.
    end: i64,
    on_disk: Option<Found>,
    /// What of the partition may be read, when it does not lie in memory.
    range: Option<Range>,
}

impl Reading<'_> {
    /// Bytes of its records.
    fn len(&self) -> usize {
        self.result.records_len() + self.on_disk.as_ref().map_or(0, Found::len)
    }

    fn fill(&mut self, read: Batches) {
        (self.result.records, self.end) = (read.chunks, read.end);
    }

    /// What its reader will ask for next.
    fn next(&self) -> Option<(Arc<Partition>, Range)> {
        let range = self.range.filter(|range| self.len() >= BULK && self.end < range.up_to)?;
        Some((self.partition.clone(), Range { offset: self.end, ..range }))
    }
}

impl Reader {
    async fn wait(&self, min_bytes: usize, deadline: Instant) -> Vec<FetchPartition> {
        let results = self.read().await;
        if enough(&results, min_bytes) || deadline <= Instant::now() {
            return results;
        }
        let partitions = self.targets.iter().filter_map(|target| target.partition.clone().ok()).collect();
        let watch = Watch::new(partitions, min_bytes as i64);
        loop {
            let results = self.read().await;
            if enough(&results, min_bytes) {
                return results;
            }
            // What came while this was read may count twice: then it is read once more than need be.
            watch.found(bytes(&results) as i64);
            if traced("wait", timeout_at(deadline, watch.ready())).await.is_err() {
                return self.read().await;
            }
            watch.rearm(min_bytes as i64);
        }
    }

    async fn read(&self) -> Vec<FetchPartition> {
        if let Some(results) = self.read_from(Source::Memory) {
            return results;
        }
        let reader = self.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_from(Source::Disk));
        // Only a panic or the end of the runtime get in between.
        traced("read", read).await.ok().flatten().unwrap_or_else(|| self.failed())
    }

    /// `None` when something is not in memory.
    fn read_from(&self, source: Source) -> Option<Vec<FetchPartition>> {
        let mut left = self.max_bytes;
        let mut at_least_one = true;
        let mut readings = Vec::with_capacity(self.targets.len());
        for target in self.targets.iter() {
            let reading = self.find(target, source, left, at_least_one)?;
            let len = reading.as_ref().map_or(0, Reading::len);
            left = left.saturating_sub(len);
            at_least_one &= len == 0;
            readings.push(reading);
        }
        if source == Source::Disk {
            self.read_disk(&mut readings);
        }
        let mut results = Vec::with_capacity(readings.len());
        for (target, reading) in self.targets.iter().zip(readings) {
            let result = match reading {
                Ok(reading) => self.finish(target, source, reading)?,
                Err(code) => Err(code),
            };
            results.push(result.unwrap_or_else(|code| FetchPartition::error(target.index, code.code())));
        }
        Some(results)
    }

    /// Reads what does not lie in memory, and has what will be asked for next read meanwhile.
    fn read_disk(&self, readings: &mut [Result<Reading<'_>, ErrorCode>]) {
        let next = self.log.prepare(readings.iter().flatten().filter_map(Reading::next));
        let on_disk = self.targets.iter().zip(readings).filter_map(|(target, reading)| {
            let found = reading.as_mut().ok()?.on_disk.take()?;
            Some(((target, reading), found))
        });
        let (waiting, found): (Vec<_>, Vec<_>) = on_disk.unzip();
        for ((target, reading), read) in waiting.into_iter().zip(self.log.take(found)) {
            match (&mut *reading, read) {
                (Ok(reading), Ok(read)) => reading.fill(read),
                (Ok(at), Err(error)) => *reading = Err(target.failed(at.partition, &error)),
                (Err(_), _) => {}
            }
        }
        if let Some(next) = next {
            tokio::task::spawn_blocking(move || next.read());
        }
    }

    fn find<'a>(
        &self,
        target: &'a Target,
        source: Source,
        left: usize,
        at_least_one: bool,
    ) -> Option<Result<Reading<'a>, ErrorCode>> {
        let partition = match target.check(self.by_id) {
            Ok(partition) => partition,
            Err(code) => return Some(Err(code)),
        };
        let (high_watermark, last_stable_offset) = (partition.high_watermark(), partition.last_stable_offset());
        let result = FetchPartition {
            high_watermark,
            last_stable_offset,
            log_start_offset: partition.log_start(),
            diverging_epoch: target.diverging_epoch(partition),
            aborted: self.read_committed.then(Vec::new),
            ..FetchPartition::error(target.index, 0)
        };
        let mut reading = Reading { partition, result, end: target.offset, on_disk: None, range: None };
        if reading.result.diverging_epoch.is_some() {
            return Some(Ok(reading));
        }
        if !(reading.result.log_start_offset..=partition.log_end()).contains(&target.offset) {
            return Some(Err(ErrorCode::OffsetOutOfRange));
        }
        let range = Range {
            offset: target.offset,
            up_to: if self.read_committed { last_stable_offset } else { high_watermark },
            max_bytes: left.min(target.max_bytes),
            at_least_one,
        };
        if let Some(read) = self.log.read_recent(partition, range) {
            reading.fill(read);
            return Some(Ok(reading));
        }
        if source == Source::Memory {
            return None;
        }
        reading.range = Some(Range { max_bytes: target.max_bytes, ..range });
        if let Some(read) = self.log.prepared(partition, range) {
            reading.fill(read);
            return Some(Ok(reading));
        }
        match self.log.find(partition, range) {
            Ok(found) => (reading.end, reading.on_disk) = (found.end(), Some(found)),
            Err(error) => return Some(Err(target.failed(partition, &error))),
        }
        Some(Ok(reading))
    }

    /// With what readers of committed records have to know.
    fn finish(
        &self,
        target: &Target,
        source: Source,
        reading: Reading<'_>,
    ) -> Option<Result<FetchPartition, ErrorCode>> {
        let Reading { partition, mut result, end, .. } = reading;
        if self.read_committed && result.diverging_epoch.is_none() && partition.has_aborts_from(target.offset) {
            if source == Source::Memory {
                return None;
            }
            match self.log.aborted(partition, target.offset, end) {
                Ok(aborted) => {
                    result.aborted = Some(aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect());
                }
                Err(error) => return Some(Err(target.failed(partition, &error))),
            }
        }
        Some(Ok(result))
    }

    fn failed(&self) -> Vec<FetchPartition> {
        let code = ErrorCode::UnknownServerError.code();
        self.targets.iter().map(|target| FetchPartition::error(target.index, code)).collect()
    }
}

fn bytes(results: &[FetchPartition]) -> usize {
    results.iter().map(FetchPartition::records_len).sum()
}

/// Kafka's conditions for not waiting: enough bytes, nothing asked, an error or a divergence to tell of.
fn enough(results: &[FetchPartition], min_bytes: usize) -> bool {
    let urgent = |result: &FetchPartition| result.error_code != 0 || result.diverging_epoch.is_some();
    results.is_empty() || results.iter().any(urgent) || bytes(results) >= min_bytes
}

#[cfg(test)]
mod tests;
