//! librdkafka through the rdkafka crate, as the cases use it.
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A record as the scenario sees it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub partition: i32,
    pub timestamp: Option<i64>,
    pub offset: i64,
}

impl Record {
    pub fn content(&self) -> (&Option<Vec<u8>>, &Option<Vec<u8>>, &Vec<(String, Option<Vec<u8>>)>) {
        (&self.key, &self.value, &self.headers)
    }

    fn of(m: &BorrowedMessage<'_>) -> Record {
        let headers = m.headers().map(|h| h.iter().map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect());
        Record {
            key: m.key().map(<[u8]>::to_vec),
            value: m.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            partition: m.partition(),
            timestamp: m.timestamp().to_millis(),
            offset: m.offset(),
        }
    }
}

/// The broker answered TOPIC_ALREADY_EXISTS.
#[derive(Debug)]
pub struct TopicExists;

impl std::fmt::Display for TopicExists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the topic exists")
    }
}

impl std::error::Error for TopicExists {}

/// Collects the offsets of a produce call by the index of their records.
#[derive(Clone, Default)]
struct Acks(Arc<Mutex<HashMap<usize, Result<i64, KafkaError>>>>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let ack = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("no panic holds it").insert(*index, ack);
    }
}

/// Commits what was handed on before partitions are given up. Not at the end: a consumer that is dropped takes what is
/// left in its queue, which counts as handed on.
#[derive(Default)]
struct CommitOnRevoke {
    ending: AtomicBool,
}

impl ClientContext for CommitOnRevoke {}

impl ConsumerContext for CommitOnRevoke {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Revoke(_)) && !self.ending.load(Ordering::Relaxed) {
            let _ = commit(consumer);
        }
    }
}

/// Cooperative members go on consuming while the group rebalances: false asks for another try when it is over.
fn commit<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Result<bool> {
    use RDKafkaErrorCode::{IllegalGeneration, NoOffset, RebalanceInProgress, StaleMemberEpoch};
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) => Ok(true),
        Err(KafkaError::ConsumerCommit(NoOffset)) => Ok(true),
        Err(KafkaError::ConsumerCommit(IllegalGeneration | RebalanceInProgress | StaleMemberEpoch)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub struct Client {
    base: ClientConfig,
    admin: AdminClient<DefaultClientContext>,
    probe: BaseConsumer,
    producers: Mutex<HashMap<(String, bool), (BaseProducer<Acks>, Acks)>>,
    session_timeout: String,
    heartbeat: String,
}

impl Client {
    pub fn new(bootstrap: &str, session_timeout: u64, heartbeat: u64) -> Result<Client> {
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", bootstrap);
        Ok(Client {
            admin: base.create()?,
            probe: base.create()?,
            base,
            producers: Mutex::default(),
            session_timeout: session_timeout.to_string(),
            heartbeat: heartbeat.to_string(),
        })
    }

    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[(String, String)]) -> Result<()> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in configs {
            new = new.set(name, value);
        }
        match block_on(self.admin.create_topics([&new], &AdminOptions::new()))?.remove(0) {
            Ok(_) => Ok(()),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Err(TopicExists.into()),
            Err((_, code)) => bail!("{code}"),
        }
    }

    /// All topics: name to number of partitions.
    pub fn topics(&self) -> Result<HashMap<String, usize>> {
        let metadata = self.probe.fetch_metadata(None, TIMEOUT)?;
        Ok(metadata.topics().iter().map(|t| (t.name().to_string(), t.partitions().len())).collect())
    }

    pub fn configs(&self, topic: &str) -> Result<HashMap<String, Option<String>>> {
        let resource = block_on(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new()))?
            .remove(0)
            .map_err(|code| anyhow!("{code}"))?;
        Ok(resource.entries.into_iter().map(|e| (e.name, e.value)).collect())
    }

    pub fn add_partitions(&self, topic: &str, total: usize) -> Result<()> {
        block_on(self.admin.create_partitions([&NewPartitions::new(topic, total)], &AdminOptions::new()))?
            .remove(0)
            .map(|_| ())
            .map_err(|(_, code)| anyhow!("{code}"))
    }

    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        block_on(self.admin.delete_topics(&[topic], &AdminOptions::new()))?
            .remove(0)
            .map(|_| ())
            .map_err(|(_, code)| anyhow!("{code}"))
    }

    /// Returns the new low watermark.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))?;
        let deleted = block_on(self.admin.delete_records(&list, &AdminOptions::new()))?;
        let element = deleted.find_partition(topic, partition).context("no answer for the partition")?;
        element.error()?;
        element.offset().to_raw().context("no low watermark")
    }

    /// Produces with acks=all and returns the offset of each record.
    pub fn produce(&self, topic: &str, records: &[Record], codec: &str, idempotent: bool) -> Result<Vec<i64>> {
        let mut producers = self.producers.lock().expect("no panic holds it");
        let key = (codec.to_string(), idempotent);
        if !producers.contains_key(&key) {
            let acks = Acks::default();
            let mut config = self.base.clone();
            config.set("acks", "all").set("compression.type", codec).set("batch.num.messages", "100");
            config.set("enable.idempotence", idempotent.to_string());
            producers.insert(key.clone(), (config.create_with_context(acks.clone())?, acks));
        }
        let (producer, acks) = &producers[&key];
        acks.0.lock().expect("no panic holds it").clear();
        for (i, r) in records.iter().enumerate() {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &r.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            let mut record = BaseRecord::with_opaque_to(topic, Box::new(i)).partition(r.partition).headers(headers);
            record.key = r.key.as_deref();
            record.payload = r.value.as_deref();
            record.timestamp = r.timestamp;
            producer.send::<[u8], [u8]>(record).map_err(|(error, _)| error)?;
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(30))?;
        let mut acks = acks.0.lock().expect("no panic holds it");
        (0..records.len()).map(|i| Ok(acks.remove(&i).context("no acknowledgement")??)).collect()
    }

    /// The first offset and the next one.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        Ok(self.probe.fetch_watermarks(topic, partition, TIMEOUT)?)
    }

    /// The first offset at or after a time in ms; none is None.
    pub fn offset_for_time(&self, topic: &str, partition: i32, ms: i64) -> Result<Option<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(ms))?;
        let found = self.probe.offsets_for_times(list, TIMEOUT)?;
        Ok(match found.find_partition(topic, partition).context("no answer")?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// Reads one partition without a group until `enough`, or 30 s have passed.
    pub fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        enough: impl Fn(&[Record]) -> bool,
    ) -> Result<Vec<Record>> {
        let mut config = self.base.clone();
        config.set("group.id", "unused").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        consumer.assign(&list)?;
        let (mut records, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
        while (records.is_empty() || !enough(&records)) && Instant::now() < deadline {
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                records.push(Record::of(&message?));
            }
        }
        Ok(records)
    }

    fn join(&self, group: &str, topic: &str, protocol: &str) -> Result<BaseConsumer<CommitOnRevoke>> {
        let mut config = self.base.clone();
        config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        if protocol == "consumer" {
            config.set("group.protocol", "consumer");
        } else {
            config.set("session.timeout.ms", &self.session_timeout).set("heartbeat.interval.ms", &self.heartbeat);
            let assignor = if protocol == "cooperative" { "cooperative-sticky" } else { "range" };
            config.set("partition.assignment.strategy", assignor);
        }
        let consumer: BaseConsumer<CommitOnRevoke> = config.create_with_context(CommitOnRevoke::default())?;
        consumer.subscribe(&[topic])?;
        Ok(consumer)
    }

    /// One member of a group: hands batches on, commits each, leaves when told to.
    pub fn member(
        &self,
        group: &str,
        topic: &str,
        protocol: &str,
        received: impl Fn(Vec<Record>),
        stop: &AtomicBool,
    ) -> Result<()> {
        let consumer = self.join(group, topic, protocol)?;
        let mut committed = true;
        while !stop.load(Ordering::Relaxed) {
            let mut batch = Vec::new();
            let mut wait = Duration::from_millis(100);
            while batch.len() < 50
                && let Some(message) = consumer.poll(wait)
            {
                batch.push(Record::of(&message?));
                wait = Duration::ZERO;
            }
            if !batch.is_empty() {
                received(batch);
                committed = false;
            }
            if !committed {
                committed = commit(&consumer)?;
            }
        }
        while !committed {
            committed = commit(&consumer)?;
        }
        consumer.context().ending.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Joins, takes exactly `count` records, commits the position after them, leaves.
    pub fn group_read(&self, group: &str, topic: &str, count: usize) -> Result<Vec<Record>> {
        let consumer = self.join(group, topic, "classic")?;
        let (mut records, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(40));
        while records.len() < count && Instant::now() < deadline {
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                records.push(Record::of(&message?));
            }
        }
        consumer.context().ending.store(true, Ordering::Relaxed);
        if let Some(last) = records.last() {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, last.partition, Offset::Offset(last.offset + 1))?;
            consumer.commit(&list, CommitMode::Sync)?;
        }
        Ok(records)
    }

    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>> {
        let consumer: BaseConsumer = self.base.clone().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let found = consumer.committed_offsets(list, TIMEOUT)?;
        let element = found.find_partition(topic, partition).context("no answer")?;
        element.error()?;
        Ok(element.offset().to_raw().filter(|offset| *offset >= 0))
    }
}
