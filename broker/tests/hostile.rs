//! Requests that are well formed and make no sense: every API at every version, with names that exist and numbers that
//! do not. Nothing may panic, every answer must encode, and what others stored stays (K11).
//!
//! `KROCKET_FUZZ_SECONDS=60` goes on for that long from a seed that is printed; `KROCKET_FUZZ_SEED` sets it.
#![allow(clippy::print_stdout)]

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, ProduceRequest, ProduceResponse, TopicName};
use krocket_broker::{Broker, Settings};
use krocket_protocol::guard::{self, sample::Sampler, sample::Words};
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_protocol::{ApiKey, StrBytes, api};
use krocket_stack::{Body, Connection, Error, Handler, Head, Request, Response};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How long a request is listened to: some wait for what never comes.
const PATIENCE: Duration = Duration::from_millis(30);
/// Rounds over all APIs and versions in the quick form.
const QUICK_ROUNDS: u64 = 60;
const TEXTS: [&str; 16] = [
    "orders",
    "pay",
    "missing",
    "readers",
    "consumer",
    "range",
    "uniform",
    "retention.ms",
    "cleanup.policy",
    "compact",
    "-1",
    "1",
    "",
    "..",
    "__krocket",
    "é\u{0}",
];

fn head(api: ApiKey, version: i16) -> Head {
    Head { api, version, client_id: None, connection: Arc::new(Connection::internal("hostile")) }
}

fn batch(producer: Option<(i64, i16, i32)>) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let mut builder = BatchBuilder::new(0, now as i64);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    builder.push(0, now as i64, Some(b"key"), Some(b"value"), &[]);
    builder.finish(LastOffset::Trim).expect("builds").expect("a record").to_vec()
}

async fn create(broker: &Broker, names: &[&'static str]) -> Vec<[u8; 16]> {
    let topic = |name: &&'static str| {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_num_partitions(2)
            .with_replication_factor(1)
    };
    let request = CreateTopicsRequest::default().with_topics(names.iter().map(topic).collect()).with_timeout_ms(9000);
    let response = broker.call(Request::new(head(ApiKey::CreateTopics, 7), request)).await.expect("an answer");
    let response: CreateTopicsResponse = response.into_message(7).expect("its type");
    response.topics.iter().map(|topic| topic.topic_id.into_bytes()).collect()
}

/// The offset at which a record was stored in a topic that no other request names.
async fn produce(broker: &Broker) -> i64 {
    let partition = PartitionProduceData::default().with_records(Some(batch(None).into()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("untouched")))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000).with_topic_data(vec![topic]);
    let response = broker.call(Request::new(head(ApiKey::Produce, 9), request)).await.expect("an answer");
    let response: ProduceResponse = response.into_message(9).expect("its type");
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, 0, "the broker still takes records: {:?}", answer.error_message);
    answer.base_offset
}

async fn open(folder: &Path) -> Arc<Broker> {
    let folder = folder.to_owned();
    let opening = tokio::task::spawn_blocking(move || Broker::open(&folder, Settings::default()));
    opening.await.expect("no panic").expect("opens")
}

/// Answered before the broker is asked.
const OF_THE_PROXY: [ApiKey; 3] = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];

#[derive(Debug, Default)]
struct Outcomes {
    answered: u64,
    refused: u64,
    waiting: u64,
}

async fn ask(broker: &Broker, api: ApiKey, version: i16, body: Bytes, outcomes: &mut Outcomes) {
    let shown = body.clone();
    let request = Request { head: head(api, version), body: Body::Raw(body) };
    let call = AssertUnwindSafe(broker.call(request)).catch_unwind();
    match tokio::time::timeout(PATIENCE, call).await {
        Err(_) => outcomes.waiting += 1,
        Ok(Err(_)) => panic!("{api:?} v{version} panicked on {shown:02x?}"),
        Ok(Ok(Ok(Response::Body(body)))) => {
            let encoded = body.encode(version);
            assert!(encoded.is_ok(), "{api:?} v{version} answers what cannot be encoded: {shown:02x?}");
            outcomes.answered += 1;
        }
        Ok(Ok(Ok(Response::None))) => outcomes.answered += 1,
        Ok(Ok(Err(Error::Shape(_) | Error::Malformed { .. } | Error::Close(_)))) => outcomes.refused += 1,
        Ok(Ok(Err(error))) => panic!("{api:?} v{version}: {error}: {shown:02x?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_well_formed_request_panics_the_broker() {
    let seconds: Option<u64> = std::env::var("KROCKET_FUZZ_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let seed = match std::env::var("KROCKET_FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("seed"),
        Err(_) if seconds.is_some() => rand::random(),
        Err(_) => 1,
    };
    println!("hostile: seed {seed}");
    let panics: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, before) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        seen.lock().expect("no panic inside").push(info.to_string());
        before(info);
    }));

    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(folder.path()).await;
    let ids = create(&broker, &["orders", "pay", "untouched"]).await;
    assert_eq!(produce(&broker).await, 0);
    let batches = [batch(None), batch(Some((0, 0, 0))), batch(Some((1, 0, 5))), batch(Some((i64::MAX, i16::MAX, 0)))];
    let mut blobs: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
    blobs.push(&[0, 0, 0, 0, 0, 1, 0, 6, b'o', b'r', b'd', b'e', b'r', b's', 0xff, 0xff, 0xff, 0xff]);
    let words = Words { texts: &TEXTS, blobs: &blobs, ids: &ids[..2] };

    let mut rng = StdRng::seed_from_u64(seed);
    let (start, mut outcomes, mut round) = (Instant::now(), Outcomes::default(), 0);
    while seconds.map_or(round < QUICK_ROUNDS, |seconds| start.elapsed().as_secs() < seconds) {
        for row in api::TABLE.iter().filter(|row| !OF_THE_PROXY.contains(&row.key)) {
            for version in row.min..=row.max {
                let schema = guard::schema(row.key).expect("a shape");
                let body = Sampler::new(|| rng.random(), false).with_words(words).body(schema, version);
                ask(&broker, row.key, version, body.into(), &mut outcomes).await;
                let seen = std::mem::take(&mut *panics.lock().expect("no panic inside"));
                assert!(seen.is_empty(), "round {round}, about {:?} v{version}: {seen:?}", row.key);
            }
        }
        round += 1;
        assert_eq!(produce(&broker).await, round as i64, "offsets go on where they were");
    }
    println!("hostile: {round} rounds, {outcomes:?}, {:.1} s", start.elapsed().as_secs_f64());
    assert!(outcomes.answered > 100 * round && outcomes.waiting < outcomes.answered, "{outcomes:?}");

    // Nor may what was stored keep it from starting again.
    let closing = tokio::task::spawn_blocking(move || broker.log.close().expect("closes"));
    closing.await.expect("no panic");
    let broker = open(folder.path()).await;
    assert_eq!(produce(&broker).await, round as i64 + 1);
    let seen = std::mem::take(&mut *panics.lock().expect("no panic inside"));
    assert!(seen.is_empty(), "at the end: {seen:?}");
}
