//! What encryption must not change: the bytes, and that a client who does not read harms nobody else.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, MetadataRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_testkit::{Client, Krocket};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::world::{Authority, connect, listener, tls};

const TOPIC: &str = "carried";
/// Batches from a few bytes to a few MB.
const VALUES: &[usize] = &[10, 3000, 100_000, 3 << 20, 1, 70_000, 5 << 20, 20];

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// Bytes that look random and are the same every time.
fn value(length: usize) -> Vec<u8> {
    let mut state = length as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn produce<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, length: usize) {
    let mut builder = BatchBuilder::new(0, 1);
    builder.push(0, 1, None, Some(&value(length)), &[]);
    let batch: Bytes = builder.finish(LastOffset::Keep).expect("no codec").expect("a record");
    let data = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data]);
    let response = client.call(9, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn fetch(offset: i64) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(50 << 20);
    let topic = FetchTopic::default().with_topic(topic()).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(50 << 20).with_min_bytes(1).with_max_wait_ms(100).with_topics(vec![topic])
}

async fn records<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, offset: i64) -> Bytes {
    let response = client.call(11, &fetch(offset)).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.records.clone().expect("records")
}

async fn start() -> (Krocket, Authority, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let server = tls(&authority.sign("krocket"));
    let krocket = Krocket::start_with(|config| {
        config.listeners = vec![listener("plain", None), listener("tls", Some(server))];
        // Most of what is fetched is on disk.
        config.log.recent_bytes = 1 << 20;
        config.kafka.insert("message.max.bytes".to_owned(), (8 << 20).to_string());
    })
    .await;
    let new = CreatableTopic::default().with_name(topic()).with_num_partitions(1).with_replication_factor(1);
    let created = krocket.client().await.call(5, &CreateTopicsRequest::default().with_topics(vec![new])).await;
    assert_eq!(created.topics[0].error_code, 0);
    (krocket, authority, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_come_back_over_tls_and_without() {
    let (krocket, authority, _folder) = start().await;
    let mut plain = Client::connect(krocket.listener("plain")).await;
    let mut encrypted = connect(krocket.listener("tls"), &authority.client(None)).await;
    for (at, length) in VALUES.iter().enumerate() {
        match at % 2 {
            0 => produce(&mut plain, *length).await,
            _ => produce(&mut encrypted, *length).await,
        }
    }
    let total: usize = VALUES.iter().sum();
    for offset in 0..VALUES.len() as i64 {
        let (expected, bytes) = (records(&mut plain, offset).await, records(&mut encrypted, offset).await);
        assert!(offset > 0 || expected.len() > total, "{} bytes", expected.len());
        assert!(expected == bytes, "from offset {offset}: {} and {} bytes", expected.len(), bytes.len());
    }
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_hold_up_nobody() {
    let (krocket, authority, _folder) = start().await;
    let trusting = authority.client(None);
    let mut reader = connect(krocket.listener("tls"), &trusting).await;
    for length in VALUES {
        produce(&mut reader, *length).await;
    }
    let mut sleepers = Vec::new();
    for _ in 0..16 {
        let mut sleeper = connect(krocket.listener("tls"), &trusting).await;
        for _ in 0..4 {
            sleeper.send_request(11, &fetch(0)).await;
        }
        sleepers.push(sleeper);
    }
    for _ in 0..20 {
        reader.call(12, &MetadataRequest::default()).await;
        assert!(records(&mut reader, 6).await.len() > 5 << 20);
    }
    // They find everything when they wake up.
    let response = sleepers[0].receive().await.expect("the first answer");
    assert!(response.len() > VALUES.iter().sum());
    drop(sleepers);
    krocket.stop().await;
}
