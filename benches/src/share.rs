//! Members of a share group (KIP-932): each takes records, and acknowledges them with its next ShareFetch.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch, FetchPartition, FetchTopic};
use kafka_protocol::messages::share_fetch_response::{PartitionData, ShareFetchResponse};
use kafka_protocol::messages::{
    DescribeConfigsRequest, FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, ShareFetchRequest,
    ShareGroupHeartbeatRequest, describe_configs_request::DescribeConfigsResource,
};
use kafka_protocol::protocol::StrBytes;
use rand::Rng;

use crate::batch;
use crate::load::{Aim, Measured};
use crate::process::cpu_seconds;
use crate::transactions::again;
use crate::wire::{Connection, check, name, topic_name};

const VERSION: i16 = 1;
/// The Java consumer's `max.poll.records`.
const MAX_RECORDS: i32 = 500;
/// How long an empty ShareFetch waits; the last acknowledgements are answered with it.
const MAX_WAIT: Duration = Duration::from_millis(100);
const GROUP_RESOURCE: i8 = 32;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
/// The part of the records that is timed; the rest waits for what was released.
const TIMED: f64 = 0.95;
/// Members that have joined heartbeat for this long before they read: the group then has its last assignment.
const SETTLING: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);

/// A group that reads a topic from its start to its end.
pub(crate) struct Sharing<'a> {
    pub(crate) topic: &'a str,
    /// Where each partition ends.
    pub(crate) ends: &'a [i64],
    pub(crate) group: String,
    pub(crate) consumers: usize,
    /// Whether every hundredth record is released once.
    pub(crate) releases: bool,
}

/// What all members have done.
struct Progress {
    total: u64,
    accepted: AtomicU64,
    released: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicBool,
    /// A flag for each record that was accepted.
    seen: Vec<Vec<AtomicBool>>,
    joined: Barrier,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.failed.load(Relaxed) || self.accepted.load(Relaxed) == self.total
    }
}

impl Sharing<'_> {
    /// Fails unless each record is accepted exactly once. `sent_records` are acknowledgements, releases among them.
    pub(crate) fn run(&self, aim: Aim) -> Result<Measured> {
        self.prepare(aim)?;
        let progress = Progress {
            total: self.ends.iter().sum::<i64>() as u64,
            accepted: AtomicU64::new(0),
            released: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            seen: self.ends.iter().map(|end| (0..*end).map(|_| AtomicBool::new(false)).collect()).collect(),
            joined: Barrier::new(self.consumers),
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.consumers)
                .map(|_| {
                    let progress = &progress;
                    scope.spawn(move || {
                        let result = Member::join(self, aim, progress).and_then(|member| member.consume());
                        if result.is_err() {
                            progress.failed.store(true, Relaxed);
                        }
                        result
                    })
                })
                .collect();
            let measured = progress.watch(aim.pid);
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
            }
            ensure!(progress.accepted.load(Relaxed) == progress.total, "not every record was accepted");
            measured
        })
    }

    /// A coordinator that is ready, and a group that starts with the first record.
    fn prepare(&self, aim: Aim) -> Result<()> {
        let mut connection = Connection::open(aim.address)?;
        let asked = FindCoordinatorRequest::default().with_coordinator_keys(vec![name(&self.group)]);
        again("FindCoordinator", || Ok(connection.call(4, &asked)?.coordinators[0].error_code))?;
        let key = name("share.auto.offset.reset");
        let earliest = AlterableConfig::default().with_name(key.clone()).with_value(Some(name("earliest")));
        let resource = AlterConfigsResource::default()
            .with_resource_type(GROUP_RESOURCE)
            .with_resource_name(name(&self.group))
            .with_configs(vec![earliest]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        check(connection.call(1, &request)?.responses[0].error_code, "the group's configs")?;
        let asked = DescribeConfigsResource::default()
            .with_resource_type(GROUP_RESOURCE)
            .with_resource_name(name(&self.group))
            .with_configuration_keys(Some(vec![key]));
        let asked = DescribeConfigsRequest::default().with_resources(vec![asked]);
        let deadline = Instant::now() + PATIENCE;
        // Kafka's brokers learn of it from the controller.
        loop {
            let response = connection.call(4, &asked)?;
            let mut configs = response.results.iter().flat_map(|result| &result.configs);
            if configs.any(|config| config.value.as_ref().is_some_and(|value| value.as_str() == "earliest")) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the group's configs do not take effect");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Progress {
    fn watch(&self, pid: u32) -> Result<Measured> {
        let wait = |until: u64| {
            while self.accepted.load(Relaxed) < until && !self.failed.load(Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let done = || (self.accepted.load(Relaxed) + self.released.load(Relaxed), self.bytes.load(Relaxed));
        // The first answers may take their time (a cold JIT).
        wait(self.total / 20);
        let (cpu, own, started, before) = (cpu_seconds(pid)?, cpu_seconds(std::process::id())?, Instant::now(), done());
        wait((self.total as f64 * TIMED) as u64);
        let after = done();
        Ok(Measured {
            seconds: started.elapsed().as_secs_f64(),
            sent_records: (after.0 - before.0) as f64,
            fetched_records: (after.0 - before.0) as f64,
            fetched_bytes: (after.1 - before.1) as f64,
            server_cpu: cpu_seconds(pid)? - cpu,
            generator_cpu: cpu_seconds(std::process::id())? - own,
            ..Measured::default()
        })
    }
}

/// What a member makes of a run of records that it got.
struct Taken {
    partition: i32,
    first: i64,
    last: i64,
    released: Vec<i64>,
}

struct Member<'a> {
    sharing: &'a Sharing<'a>,
    progress: &'a Progress,
    connection: Connection,
    id: StrBytes,
    epoch: i32,
    interval: Duration,
    /// The group's topic, by id.
    topic: FetchTopic,
    assigned: Vec<i32>,
}

impl<'a> Member<'a> {
    fn join(sharing: &'a Sharing<'a>, aim: Aim, progress: &'a Progress) -> Result<Self> {
        // 22 characters are the text of an id; the last one has only two bits.
        let mut random = rand::rng();
        let id: String = (0..21).map(|_| char::from(random.random_range(b'a'..=b'z'))).chain(['A']).collect();
        let joined = Connection::open(aim.address).and_then(|connection| {
            let interval = Duration::from_secs(5);
            let (topic, assigned) = (FetchTopic::default(), Vec::new());
            let mut member = Self { sharing, progress, connection, id: name(&id), epoch: 0, interval, topic, assigned };
            member.heartbeat()?;
            Ok(member)
        });
        if joined.is_err() {
            progress.failed.store(true, Relaxed);
        }
        progress.joined.wait();
        let mut member = joined?;
        let settled = Instant::now() + SETTLING;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < settled || member.assigned.is_empty() {
            ensure!(Instant::now() < deadline, "a member is assigned nothing");
            ensure!(!progress.failed.load(Relaxed), "another member failed");
            thread::sleep(Duration::from_millis(50));
            member.heartbeat()?;
        }
        Ok(member)
    }

    fn group(&self) -> GroupId {
        GroupId(name(&self.sharing.group))
    }

    fn heartbeat(&mut self) -> Result<()> {
        let topics = (self.epoch == 0).then(|| vec![topic_name(self.sharing.topic)]);
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(self.group())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
            .with_subscribed_topic_names(topics);
        let mut response = None;
        again("ShareGroupHeartbeat", || {
            let answer = self.connection.call(VERSION, &request)?;
            let code = answer.error_code;
            response = Some(answer);
            Ok(code)
        })?;
        let Some(response) = response else { bail!("no heartbeat was answered") };
        self.epoch = response.member_epoch;
        self.interval = Duration::from_millis(response.heartbeat_interval_ms.max(0) as u64);
        if let Some(assignment) = response.assignment {
            self.assigned.clear();
            for topic in assignment.topic_partitions {
                self.topic.topic_id = topic.topic_id;
                self.assigned = topic.partitions;
            }
        }
        Ok(())
    }

    fn consume(mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut beat = Instant::now() + self.interval;
        let mut session = 0;
        let mut taken: Vec<Taken> = Vec::new();
        let mut in_session = Vec::new();
        while !self.progress.is_over() {
            ensure!(Instant::now() < deadline, "the group does not come to an end within {PATIENCE:?}");
            if Instant::now() > beat {
                self.heartbeat()?;
                beat = Instant::now() + self.interval;
            }
            // Partitions that are new to the session are named, and those with acknowledgements.
            let fresh: Vec<_> = self.assigned.iter().filter(|p| !in_session.contains(*p)).copied().collect();
            in_session.extend(&fresh);
            let request = ShareFetchRequest::default()
                .with_group_id(Some(self.group()))
                .with_member_id(Some(self.id.clone()))
                .with_share_session_epoch(session)
                .with_max_wait_ms(MAX_WAIT.as_millis() as i32)
                .with_min_bytes(1)
                .with_max_bytes(50 << 20)
                .with_max_records(MAX_RECORDS)
                .with_batch_size(MAX_RECORDS)
                .with_topics(self.named(&fresh, &taken));
            let response = self.connection.call(VERSION, &request)?;
            check(response.error_code, "ShareFetch")?;
            session += 1;
            self.acknowledged(&response, &taken)?;
            taken = self.take(response)?;
        }
        ensure!(taken.is_empty() || self.progress.failed.load(Relaxed), "records came after all were accepted");
        self.epoch = -1;
        // Leaving; the server is told so that it need not find out.
        self.heartbeat()
    }

    /// Counts what the response says was acknowledged.
    fn acknowledged(&self, response: &ShareFetchResponse, taken: &[Taken]) -> Result<()> {
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            check(partition.acknowledge_error_code, &format!("acknowledging in {}", partition.partition_index))?;
        }
        let (mut accepted, mut released) = (0, 0);
        for run in taken {
            for offset in run.first..=run.last {
                if run.released.contains(&offset) {
                    released += 1;
                } else {
                    let seen = &self.progress.seen[run.partition as usize][offset as usize];
                    ensure!(!seen.swap(true, Relaxed), "{}-{offset} was accepted twice", run.partition);
                    accepted += 1;
                }
            }
        }
        self.progress.accepted.fetch_add(accepted, Relaxed);
        self.progress.released.fetch_add(released, Relaxed);
        Ok(())
    }

    fn take(&self, response: ShareFetchResponse) -> Result<Vec<Taken>> {
        let mut taken = Vec::new();
        for topic in response.responses {
            for partition in topic.partitions {
                if is_passing(&partition) {
                    continue;
                }
                check(partition.error_code, &format!("sharing {}", partition.partition_index))?;
                let fetched = batch::count(partition.records.unwrap_or_default());
                self.progress.bytes.fetch_add(fetched.bytes, Relaxed);
                for run in partition.acquired_records {
                    ensure!(
                        fetched.first_offset.is_some_and(|first| first <= run.first_offset)
                            && run.last_offset < fetched.next_offset,
                        "records {} to {} were acquired and did not come",
                        run.first_offset,
                        run.last_offset
                    );
                    let releases = self.sharing.releases && run.delivery_count == 1;
                    let released = (run.first_offset..=run.last_offset).filter(|o| releases && o % 100 == 0);
                    taken.push(Taken {
                        partition: partition.partition_index,
                        first: run.first_offset,
                        last: run.last_offset,
                        released: released.collect(),
                    });
                }
            }
        }
        Ok(taken)
    }

    /// The topics of a request: partitions for the session, and acknowledgements.
    fn named(&self, fresh: &[i32], taken: &[Taken]) -> Vec<FetchTopic> {
        let mut partitions: Vec<FetchPartition> =
            fresh.iter().map(|index| FetchPartition::default().with_partition_index(*index)).collect();
        for run in taken {
            // One kind for all of them, or one for each, as the Java consumer does it.
            let kinds = if run.released.is_empty() {
                vec![ACCEPT]
            } else {
                (run.first..=run.last).map(|o| if run.released.contains(&o) { RELEASE } else { ACCEPT }).collect()
            };
            let batch = AcknowledgementBatch::default()
                .with_first_offset(run.first)
                .with_last_offset(run.last)
                .with_acknowledge_types(kinds);
            match partitions.iter_mut().find(|partition| partition.partition_index == run.partition) {
                Some(partition) => partition.acknowledgement_batches.push(batch),
                None => partitions.push(
                    FetchPartition::default()
                        .with_partition_index(run.partition)
                        .with_acknowledgement_batches(vec![batch]),
                ),
            }
        }
        if partitions.is_empty() { Vec::new() } else { vec![self.topic.clone().with_partitions(partitions)] }
    }
}

/// Whether a partition asks for patience: Kafka loads its state when it is first asked for.
fn is_passing(partition: &PartitionData) -> bool {
    [
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::CoordinatorNotAvailable,
        ResponseError::NotCoordinator,
        ResponseError::NotLeaderOrFollower,
        ResponseError::LeaderNotAvailable,
    ]
    .map(|error| error.code())
    .contains(&partition.error_code)
}
