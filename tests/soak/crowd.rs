//! Clients that behave badly beside the main load. They end when they are dropped.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_testkit::promises::wire::{self, Outgoing};
use krocket_testkit::session::Session;
use tokio::task::JoinSet;

use crate::paced::TOPIC;

const HOPELESS: &str = "hopeless";
const WORK: &str = "hopeless-work";

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The end of a topic's first partition.
pub(crate) async fn end(session: &mut Session, topic: &str) -> i64 {
    wire::offset_at(session, topic, 0, wire::LATEST).await.expect("an answer")
}

/// Between two batches of [`HOPELESS_RECORDS`].
const HOPELESS_GAP: Duration = Duration::from_millis(100);
const HOPELESS_RECORDS: u64 = 20;

/// A group that nacks everything it gets, new or retried: 200 records a second, each three times.
pub(crate) async fn hopeless(address: SocketAddr) -> JoinSet<()> {
    let retry = format!("retry.{HOPELESS}");
    wire::create_topic(address, WORK, 1).await;
    wire::ask_for(address, &retry).await;
    let mut clients = JoinSet::new();
    clients.spawn(async move {
        let mut session = Session::connect(address).await.expect("connects");
        for batch in 0_u64.. {
            let records: Vec<_> = (0..HOPELESS_RECORDS)
                .map(|at| Outgoing::new(&format!("work-{}", batch * HOPELESS_RECORDS + at)))
                .collect();
            wire::produce(&mut session, WORK, 0, 1, &records).await.expect("an answer").expect("taken");
            tokio::time::sleep(HOPELESS_GAP).await;
        }
    });
    for from in [WORK.to_owned(), retry.clone()] {
        let retry = retry.clone();
        clients.spawn(async move {
            let mut session = Session::connect(address).await.expect("connects");
            let mut position = 0;
            loop {
                let Ok((records, end, _)) = wire::fetch(&mut session, &from, 0, position).await.expect("an answer")
                else {
                    position = self::end(&mut session, &from).await;
                    continue;
                };
                let nack = |record: &wire::Read| {
                    let own = |(name, value): &(String, Option<String>)| {
                        ["RECONSUME_TIMES", "ORIGIN_MESSAGE_ID", "REAL_TOPIC"]
                            .contains(&name.as_str())
                            .then(|| (name.clone(), value.clone().unwrap_or_default()))
                    };
                    let headers = record.headers.iter().filter_map(own).collect();
                    Outgoing { headers, ..Outgoing::new(&record.value) }
                };
                let nacks: Vec<_> = records.iter().map(nack).collect();
                if !nacks.is_empty() {
                    wire::produce(&mut session, &retry, 0, 1, &nacks).await.expect("an answer").expect("taken");
                }
                if end == position {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                position = end;
            }
        });
    }
    clients
}

/// What a slow reader takes in a second.
const SLOW_BYTES: i32 = 1 << 20;

/// Readers that are slow or take nothing of what they asked for, and so many clients that come and go.
pub(crate) async fn motley(address: SocketAddr, reconnecting: u32) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for at in 0..40 {
        let stalled = at % 2 == 0;
        clients.spawn(async move {
            let mut session = Session::connect(address).await.expect("connects").patient(Duration::from_secs(3600));
            loop {
                let from = end(&mut session, TOPIC).await;
                let asked = FetchPartition::default()
                    .with_current_leader_epoch(-1)
                    .with_fetch_offset((from - 500).max(0))
                    .with_partition_max_bytes(SLOW_BYTES);
                let asked = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![asked]);
                let request =
                    FetchRequest::default().with_max_bytes(SLOW_BYTES).with_session_epoch(-1).with_topics(vec![asked]);
                // Who stands still has asked, and never takes the answer.
                let Ok(sent) = session.send(12, &request).await else { return };
                if stalled {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                if session.receive::<FetchRequest>(12, sent).await.is_err() {
                    return;
                }
            }
        });
    }
    for at in 0..reconnecting {
        clients.spawn(async move {
            // Spread over the seconds.
            tokio::time::sleep(Duration::from_millis(u64::from(at) * 10_000 / u64::from(reconnecting))).await;
            loop {
                if let Ok(mut session) = Session::connect(address).await {
                    let _ = session.call(3, &ApiVersionsRequest::default()).await;
                    let _ = session.call(9, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
                }
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
    }
    clients
}
