//! One blocking connection: requests through `kafka-protocol`, produce frames as prepared bytes.

use std::io::{BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ListOffsetsRequest,
    ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    produce_request::{PartitionProduceData, TopicProduceData},
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::batch::{self, Batch};

/// The last versions that all servers know; on the wire nothing that is used here came later.
const PRODUCE: i16 = 11;
const LIST_OFFSETS: i16 = 6;
/// A server that is silent for this long has failed the run.
const SILENCE: Duration = Duration::from_secs(60);

pub(crate) struct Connection {
    read: BufReader<TcpStream>,
    buffer: Buffer,
    correlation: i32,
}

/// What a response was read into.
#[derive(Clone, Default)]
struct Buffer(Arc<Vec<u8>>);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(text: &str) -> TopicName {
    TopicName(name(text))
}

/// An error code of the protocol as an error that names it.
pub(crate) fn check(code: i16, what: &str) -> Result<()> {
    match ResponseError::try_from_code(code) {
        None if code == 0 => Ok(()),
        None => bail!("{what}: unknown error code {code}"),
        Some(error) => bail!("{what}: {error:?}"),
    }
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { read: BufReader::with_capacity(16 * 1024, stream), buffer: Buffer::default(), correlation: 0 })
    }

    /// The socket again, for a thread that only writes.
    pub(crate) fn writer(&self) -> Result<TcpStream> {
        Ok(self.read.get_ref().try_clone()?)
    }

    /// Sends a request and waits for its response.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.correlation += 1;
        let frame = frame(version, self.correlation, request)?;
        self.read.get_mut().write_all(&frame)?;
        let body = self.receive()?;
        let (correlation, response) = decode::<R>(body, version)?;
        ensure!(correlation == self.correlation, "correlation id {correlation}, expected {}", self.correlation);
        Ok(response)
    }

    /// The next response, without its length.
    pub(crate) fn receive(&mut self) -> Result<Bytes> {
        let mut length = [0; 4];
        self.read.read_exact(&mut length).map_err(explain)?;
        let length = i32::from_be_bytes(length) as usize;
        // The buffer is used again, uncleared, once the last response is gone.
        if Arc::get_mut(&mut self.buffer.0).is_none() {
            self.buffer = Buffer::default();
        }
        let bytes = Arc::make_mut(&mut self.buffer.0);
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        self.read.read_exact(&mut bytes[..length]).map_err(explain)?;
        Ok(Bytes::from_owner(self.buffer.clone()).slice(..length))
    }
}

fn explain(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            anyhow::anyhow!("the server was silent for {SILENCE:?}")
        }
        ErrorKind::UnexpectedEof => anyhow::anyhow!("the server closed the connection"),
        _ => error.into(),
    }
}

fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Result<Vec<u8>> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("krocket-bench")));
    let mut out = BytesMut::zeroed(4);
    header.encode(&mut out, R::header_version(version))?;
    request.encode(&mut out, version)?;
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.to_vec())
}

fn decode<R: Request>(mut body: Bytes, version: i16) -> Result<(i32, R::Response)> {
    let header = ResponseHeader::decode(&mut body, R::Response::header_version(version))?;
    Ok((header.correlation_id, R::Response::decode(&mut body, version)?))
}

/// Whether somebody answers ApiVersions there.
pub(crate) fn answers(address: SocketAddr) -> bool {
    let ask = || -> Result<_> { Connection::open(address)?.call(0, &ApiVersionsRequest::default()) };
    ask().is_ok_and(|response| response.error_code == 0)
}

/// Creates topics of `partitions` partitions each and waits until each partition can be written.
pub(crate) fn create_topics(
    connection: &mut Connection,
    names: &[String],
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<()> {
    let configs: Vec<_> = configs
        .iter()
        .map(|(key, value)| CreatableTopicConfig::default().with_name(name(key)).with_value(Some(name(value))))
        .collect();
    let topics = names.iter().map(|topic| {
        CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.clone())
    });
    let request = CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(60_000);
    let response = connection.call(7, &request)?;
    ensure!(response.topics.len() == names.len(), "{} topics asked, {} answered", names.len(), response.topics.len());
    for topic in &response.topics {
        let message = topic.error_message.as_ref().map_or("", |m| m.as_str());
        check(topic.error_code, &format!("creating topic {} {message}", topic.name.as_str()))?;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    for topic in names {
        // Kafka's CreateTopics answers before its partitions have a leader.
        while let Err(error) = end_offsets(connection, topic, partitions) {
            ensure!(Instant::now() < deadline, "topic {topic} does not become ready: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

pub(crate) fn delete_topics(connection: &mut Connection, names: &[String]) -> Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(names.iter().map(|topic| topic_name(topic)).collect())
        .with_timeout_ms(60_000);
    for topic in connection.call(5, &request)?.responses {
        check(topic.error_code, "deleting a topic")?;
    }
    Ok(())
}

/// The end offset of each partition, in the order of the partitions.
pub(crate) fn end_offsets(connection: &mut Connection, topic: &str, partitions: i32) -> Result<Vec<i64>> {
    let asked = (0..partitions).map(|p| {
        ListOffsetsPartition::default().with_partition_index(p).with_current_leader_epoch(-1).with_timestamp(-1)
    });
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(asked.collect())]);
    let response = connection.call(LIST_OFFSETS, &request)?;
    let mut ends = vec![-1; partitions as usize];
    for partition in response.topics.iter().flat_map(|t| &t.partitions) {
        check(partition.error_code, &format!("end of {topic}-{}", partition.partition_index))?;
        let slot = ends.get_mut(partition.partition_index as usize).context("a partition nobody asked for")?;
        *slot = partition.offset;
    }
    ensure!(ends.iter().all(|end| *end >= 0), "not every partition of {topic} was answered");
    Ok(ends)
}

/// Produces one batch and waits for its answer.
pub(crate) fn produce(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    acks: i16,
    batch: &Batch,
) -> Result<i64> {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.bytes.clone()));
    let topics = vec![TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data])];
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(topics);
    let response = connection.call(PRODUCE, &request)?;
    let answer = &response.responses[0].partition_responses[0];
    let message = answer.error_message.as_ref().map_or("", |m| m.as_str());
    check(answer.error_code, &format!("producing to {topic}-{partition} {message}"))?;
    Ok(answer.base_offset)
}

/// Produce requests of one batch each, one per partition, encoded once.
pub(crate) struct Prepared {
    pub(crate) batch: Arc<Batch>,
    heads: Vec<Vec<u8>>,
    tail: Vec<u8>,
}

impl Prepared {
    /// `destinations` are the (topic, partition) pairs that senders take in turn.
    pub(crate) fn new(batch: Arc<Batch>, acks: i16, destinations: &[(String, i32)]) -> Result<Self> {
        let mut heads = Vec::with_capacity(destinations.len());
        let mut tail = Vec::new();
        for (topic, partition) in destinations {
            let data = PartitionProduceData::default().with_index(*partition).with_records(Some(batch.bytes.clone()));
            let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
            let request =
                ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
            let frame = frame(PRODUCE, 0, &request)?;
            // Three empty tag sections end the request: of the partition, of the topic and of the request.
            let end = frame.len() - 3;
            let start = end - batch.bytes.len();
            ensure!(frame[start..end] == batch.bytes[..], "the batch isn't where it was expected in the request");
            heads.push(frame[..start].to_vec());
            tail = frame[end..].to_vec();
        }
        Ok(Self { batch, heads, tail })
    }

    pub(crate) fn destinations(&self) -> usize {
        self.heads.len()
    }

    /// Sends the request for `destination`; `correlation` comes back in the response.
    pub(crate) fn send(&self, out: &mut TcpStream, destination: usize, correlation: i32) -> Result<()> {
        self.send_batch(out, destination, correlation, &self.batch.bytes)
    }

    /// The same with the batch's producer id, epoch and sequence filled in.
    pub(crate) fn send_idempotent(
        &self,
        out: &mut TcpStream,
        destination: usize,
        correlation: i32,
        producer: &mut Producer,
    ) -> Result<()> {
        let sequence = producer.sequences.get_mut(destination).context("no such destination")?;
        producer.batch.clear();
        producer.batch.extend_from_slice(&self.batch.bytes);
        batch::stamp(&mut producer.batch, producer.id, producer.epoch, *sequence);
        *sequence += self.batch.records as i32;
        self.send_batch(out, destination, correlation, &producer.batch)
    }

    fn send_batch(&self, out: &mut TcpStream, destination: usize, correlation: i32, batch: &[u8]) -> Result<()> {
        let mut head = self.heads[destination].clone();
        head[8..12].copy_from_slice(&correlation.to_be_bytes());
        let parts = [&head[..], batch, &self.tail[..]];
        let mut skip = out.write_vectored(&parts.map(IoSlice::new))?;
        for part in parts {
            let done = skip.min(part.len());
            out.write_all(&part[done..])?;
            skip -= done;
        }
        Ok(())
    }
}

/// An idempotent producer's state.
pub(crate) struct Producer {
    id: i64,
    epoch: i16,
    /// The next sequence of each destination.
    sequences: Vec<i32>,
    batch: Vec<u8>,
}

impl Producer {
    pub(crate) fn new(connection: &mut Connection, destinations: usize) -> Result<Self> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut response = connection.call(4, &request)?;
        // Kafka says so while it fetches its first block of producer ids.
        while response.error_code == ResponseError::CoordinatorLoadInProgress.code() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            response = connection.call(4, &request)?;
        }
        check(response.error_code, "InitProducerId")?;
        Ok(Self {
            id: response.producer_id.0,
            epoch: response.producer_epoch,
            sequences: vec![0; destinations],
            batch: Vec::new(),
        })
    }
}

/// Checks the response to a prepared request; returns its correlation id.
pub(crate) fn acknowledged(body: Bytes) -> Result<i32> {
    let (correlation, response): (i32, ProduceResponse) = decode::<ProduceRequest>(body, PRODUCE)?;
    let mut answered = 0;
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            check(partition.error_code, &format!("producing to {}-{}", topic.name.as_str(), partition.index))?;
            ensure!(partition.base_offset >= 0, "an acknowledged batch has no offset");
            answered += 1;
        }
    }
    ensure!(answered == 1, "{answered} partitions answered instead of 1");
    Ok(correlation)
}
