//! Transactions as clients see them: of protocol version 2 (KIP-890) and of older ones.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use krocket_protocol::records::batch::ATTRIBUTE_TRANSACTIONAL;
use krocket_protocol::{ApiKey, ErrorCode};

use super::Producer;
use crate::Settings;
use crate::api::testing::{TestBroker, error, text, topic};
use crate::api::testing_data::{
    TopicRef, batches, create, fetch, fetch_request, finish, now_ms, produce_request, single, wanted,
};
use crate::log::{Clock, LogConfig};

const ID: &str = "t";

fn id() -> TransactionalId {
    TransactionalId(text(ID))
}

async fn init(broker: &TestBroker, timeout_ms: i32, asks: Option<Producer>) -> Result<Producer, ErrorCode> {
    let asks = asks.unwrap_or(Producer { id: -1, epoch: -1 });
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(asks.id))
        .with_producer_epoch(asks.epoch);
    let response: InitProducerIdResponse = broker.ask(ApiKey::InitProducerId, 5, request).await;
    match error(response.error_code) {
        None => Ok(Producer { id: response.producer_id.0, epoch: response.producer_epoch }),
        Some(code) => Err(code),
    }
}

async fn start(broker: &TestBroker) -> Producer {
    init(broker, 60_000, None).await.expect("initialised")
}

fn batch(producer: Producer, sequence: i32, value: &str) -> Bytes {
    let mut builder = krocket_protocol::records::BatchBuilder::new(0, now_ms())
        .producer(producer.id, producer.epoch, sequence)
        .attribute(ATTRIBUTE_TRANSACTIONAL, true);
    builder.push(0, now_ms(), Some(value.as_bytes()), Some(value.as_bytes()), &[]);
    finish(builder)
}

async fn send(
    broker: &TestBroker,
    version: i16,
    to: &TopicRef,
    partition: i32,
    batch: Bytes,
) -> Result<i64, ErrorCode> {
    let request = produce_request(version, to, partition, -1, batch).with_transactional_id(Some(id()));
    let mut response: ProduceResponse = broker.ask(ApiKey::Produce, version, request).await;
    let answer = response.responses.remove(0).partition_responses.remove(0);
    error(answer.error_code).map_or(Ok(answer.base_offset), Err)
}

async fn end(broker: &TestBroker, version: i16, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
    let request = EndTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_committed(commit);
    let response: EndTxnResponse = broker.ask(ApiKey::EndTxn, version, request).await;
    match error(response.error_code) {
        None if version < 5 => Ok(producer),
        None => Ok(Producer { id: response.producer_id.0, epoch: response.producer_epoch }),
        Some(code) => Err(code),
    }
}

/// What a consumer shows under read_committed, as clients work that out; and the last stable offset.
async fn committed(broker: &TestBroker, of: &TopicRef, partition: i32) -> (Vec<String>, i64) {
    let request = fetch_request(12, of, vec![wanted(partition, 0)]).with_min_bytes(0).with_isolation_level(1);
    let response = fetch(broker, 12, request).await;
    let data = &response.responses[0].partitions[0];
    let mut aborted: Vec<(i64, i64)> =
        data.aborted_transactions.iter().flatten().map(|one| (one.first_offset, one.producer_id.0)).collect();
    aborted.sort_unstable_by(|a, b| b.cmp(a));
    let mut current = std::collections::HashSet::new();
    let mut shown = Vec::new();
    for (header, records) in batches(data) {
        while aborted.last().is_some_and(|(first, _)| *first <= header.base_offset) {
            current.extend(aborted.pop().map(|(_, producer)| producer));
        }
        if header.is_control() {
            current.remove(&header.producer_id);
        } else if !(header.is_transactional() && current.contains(&header.producer_id)) {
            shown.extend(records.into_iter().map(|record| record.value));
        }
    }
    (shown, data.last_stable_offset)
}

async fn add_partition(broker: &TestBroker, producer: Producer, to: &TopicRef, partition: i32) -> Option<ErrorCode> {
    let topic = AddPartitionsToTxnTopic::default().with_name(topic(to.name)).with_partitions(vec![partition]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id())
        .with_v3_and_below_producer_id(ProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(vec![topic]);
    let response: AddPartitionsToTxnResponse = broker.ask(ApiKey::AddPartitionsToTxn, 3, request).await;
    error(response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
}

async fn stage(broker: &TestBroker, producer: Producer, offset: i64) -> Option<ErrorCode> {
    let partition = TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topics = TxnOffsetCommitRequestTopic::default().with_name(topic("a")).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(id())
        .with_group_id(GroupId(text("g")))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_generation_id(-1)
        .with_topics(vec![topics]);
    let response: TxnOffsetCommitResponse = broker.ask(ApiKey::TxnOffsetCommit, 5, request).await;
    error(response.topics[0].partitions[0].error_code)
}

/// The group's offset as a consumer that wants a stable one asks for it.
async fn stable_offset(broker: &TestBroker) -> Result<i64, ErrorCode> {
    let topics = OffsetFetchRequestTopics::default().with_name(topic("a")).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g"))).with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let response: OffsetFetchResponse = broker.ask(ApiKey::OffsetFetch, 8, request).await;
    let answer = &response.groups[0].topics[0].partitions[0];
    error(answer.error_code).map_or(Ok(answer.committed_offset), Err)
}

#[tokio::test]
async fn what_is_committed_is_seen_whole_and_what_is_aborted_never() {
    let mut broker = TestBroker::start().await;
    let a = create(&broker, "a", 2, &[]).await;
    let mut producer = start(&broker).await;
    for (round, commit) in [true, false, true, false].into_iter().enumerate() {
        for partition in 0..2 {
            let name = format!("{round}-{partition}");
            send(&broker, 12, &a, partition, batch(producer, 0, &name)).await.expect("appended");
        }
        let before = committed(&broker, &a, 0).await;
        assert_eq!(before.1, 2 * round as i64, "an open transaction holds back what follows");
        if round == 1 {
            broker = broker.restart().await;
            assert_eq!(committed(&broker, &a, 0).await, before);
        }
        let next = end(&broker, 5, producer, commit).await.expect("ended");
        assert_eq!(next, Producer { epoch: producer.epoch + 1, ..producer });
        assert_eq!(end(&broker, 5, producer, commit).await, Ok(next), "asked again: the answer may have been lost");
        assert_eq!(end(&broker, 5, producer, !commit).await, Err(ErrorCode::ProducerFenced));
        let late = send(&broker, 12, &a, 0, batch(producer, 1, "late")).await;
        assert_eq!(late, Err(ErrorCode::InvalidProducerEpoch), "late batches can't tear the next transaction");
        producer = next;
    }
    for _ in 0..2 {
        assert_eq!(committed(&broker, &a, 0).await, (vec!["0-0".into(), "2-0".into()], 8));
        assert_eq!(committed(&broker, &a, 1).await, (vec!["0-1".into(), "2-1".into()], 8));
        broker = broker.restart().await;
    }
}

#[tokio::test]
async fn others_records_behind_an_open_transaction_wait_for_it() {
    let broker = TestBroker::start().await;
    let a = create(&broker, "a", 1, &[]).await;
    let producer = start(&broker).await;
    send(&broker, 12, &a, 0, batch(producer, 0, "mine")).await.expect("appended");
    crate::api::testing_data::produce(&broker, 12, &a, 0, -1, finish(single())).await;
    assert_eq!(committed(&broker, &a, 0).await, (vec![], 0));
    end(&broker, 5, producer, false).await.expect("aborted");
    assert_eq!(committed(&broker, &a, 0).await, (vec!["v".into()], 3));
}

#[tokio::test]
async fn older_clients_announce_partitions_and_keep_their_epoch() {
    let broker = TestBroker::start().await;
    let a = create(&broker, "a", 2, &[]).await;
    let producer = start(&broker).await;
    let unannounced = send(&broker, 9, &a, 0, batch(producer, 0, "x")).await;
    assert_eq!(unannounced, Err(ErrorCode::InvalidTxnState));
    assert_eq!(end(&broker, 3, producer, true).await, Err(ErrorCode::InvalidTxnState), "nothing is open");
    let mut broker = broker;
    for (sequence, commit) in (0..).zip([true, false, true]) {
        assert_eq!(add_partition(&broker, producer, &a, 0).await, None);
        broker = broker.restart().await;
        send(&broker, 9, &a, 0, batch(producer, sequence, &format!("{sequence}"))).await.expect("appended");
        assert_eq!(end(&broker, 3, producer, commit).await, Ok(producer));
        assert_eq!(end(&broker, 3, producer, commit).await, Ok(producer), "asked again");
        let late = send(&broker, 9, &a, 0, batch(producer, sequence + 1, "late")).await;
        assert_eq!(late, Err(ErrorCode::InvalidTxnState));
    }
    assert_eq!(committed(&broker, &a, 0).await, (vec!["0".into(), "2".into()], 6));
}

#[tokio::test]
async fn a_new_producer_fences_the_old_one_and_aborts_what_it_left() {
    let broker = TestBroker::start().await;
    let a = create(&broker, "a", 1, &[]).await;
    let old = start(&broker).await;
    send(&broker, 12, &a, 0, batch(old, 0, "left")).await.expect("appended");
    let broker = broker.restart().await;
    let new = start(&broker).await;
    assert_eq!(new, Producer { epoch: old.epoch + 1, ..old });
    assert_eq!(end(&broker, 5, old, true).await, Err(ErrorCode::ProducerFenced));
    assert_eq!(send(&broker, 12, &a, 0, batch(old, 1, "late")).await, Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(init(&broker, 60_000, Some(old)).await, Err(ErrorCode::ProducerFenced));
    send(&broker, 12, &a, 0, batch(new, 0, "new")).await.expect("appended");
    end(&broker, 5, new, true).await.expect("committed");
    assert_eq!(committed(&broker, &a, 0).await, (vec!["new".into()], 4));
}

#[tokio::test]
async fn a_producer_may_ask_for_its_next_epoch_twice() {
    let broker = TestBroker::start().await;
    let first = start(&broker).await;
    let second = init(&broker, 60_000, Some(first)).await.expect("bumped");
    assert_eq!(second.epoch, first.epoch + 1);
    assert_eq!(init(&broker, 60_000, Some(first)).await, Ok(second), "the answer was lost");
    assert_eq!(
        init(&broker, 60_000, Some(Producer { id: 999, epoch: 0 })).await,
        Err(ErrorCode::InvalidProducerIdMapping)
    );
    for timeout_ms in [0, -1, 900_001] {
        assert_eq!(init(&broker, timeout_ms, None).await, Err(ErrorCode::InvalidTransactionTimeout));
    }
}

#[tokio::test]
async fn offsets_count_when_their_transaction_does() {
    let mut broker = TestBroker::start().await;
    create(&broker, "a", 1, &[]).await;
    let mut producer = start(&broker).await;
    for (offset, commit, expected) in [(5, true, 5), (9, false, 5), (7, true, 7)] {
        assert_eq!(stage(&broker, producer, offset - 1).await, None);
        assert_eq!(stage(&broker, producer, offset).await, None);
        assert_eq!(stable_offset(&broker).await, Err(ErrorCode::UnstableOffsetCommit));
        if offset == 9 {
            broker = broker.restart().await;
            assert_eq!(stable_offset(&broker).await, Err(ErrorCode::UnstableOffsetCommit));
        }
        let old = producer;
        producer = end(&broker, 5, producer, commit).await.expect("ended");
        assert_eq!(stable_offset(&broker).await, Ok(expected));
        assert_eq!(stage(&broker, old, 99).await, Some(ErrorCode::InvalidProducerEpoch));
    }
    let broker = broker.restart().await;
    assert_eq!(stable_offset(&broker).await, Ok(7));
}

#[tokio::test]
async fn what_outlives_its_timeout_is_aborted_and_its_producer_fenced() {
    let clock = Clock::manual(now_ms());
    let log = LogConfig { clock: clock.clone(), ..LogConfig::default() };
    let broker = TestBroker::settings(Settings { log, ..Settings::default() }).await;
    let a = create(&broker, "a", 1, &[]).await;
    let producer = start(&broker).await;
    send(&broker, 12, &a, 0, batch(producer, 0, "slow")).await.expect("appended");
    let state = || async {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
        let response: DescribeTransactionsResponse = broker.ask(ApiKey::DescribeTransactions, 0, request).await;
        response.transaction_states[0].transaction_state.to_string()
    };
    assert_eq!(state().await, "Ongoing");
    clock.advance(60_001);
    tokio::time::timeout(Duration::from_secs(20), async {
        while state().await != "CompleteAbort" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("aborted");
    assert_eq!(end(&broker, 5, producer, true).await, Err(ErrorCode::ProducerFenced));
    assert_eq!(committed(&broker, &a, 0).await, (vec![], 2));
    let next = start(&broker).await;
    assert_eq!(state().await, "Empty", "nothing has ended since the producer began");
    assert_eq!(end(&broker, 3, next, false).await, Err(ErrorCode::InvalidTxnState));
}

#[tokio::test]
async fn batches_without_their_transaction_are_refused() {
    let broker = TestBroker::start().await;
    let a = create(&broker, "a", 1, &[]).await;
    let producer = start(&broker).await;
    let request = produce_request(12, &a, 0, -1, batch(producer, 0, "x"));
    let response: ProduceResponse = broker.ask(ApiKey::Produce, 12, request).await;
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(error(code), Some(ErrorCode::TransactionalIdAuthorizationFailed));
    send(&broker, 12, &a, 0, batch(producer, 0, "x")).await.expect("appended");
    let plain = finish(single().producer(producer.id, producer.epoch, 1));
    assert_eq!(send(&broker, 12, &a, 0, plain).await, Err(ErrorCode::InvalidTxnState));
    let other = Producer { id: producer.id + 1, ..producer };
    assert_eq!(send(&broker, 12, &a, 0, batch(other, 0, "x")).await, Err(ErrorCode::InvalidProducerIdMapping));
}

#[tokio::test]
async fn compaction_takes_aborted_records_away_and_leaves_open_ones() {
    let broker = TestBroker::start().await;
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "0")];
    let a = create(&broker, "a", 1, &configs).await;
    let mut producer = start(&broker).await;
    for (key, commit) in [("k", true), ("k", false), ("j", true), ("i", true)] {
        send(&broker, 12, &a, 0, batch(producer, 0, key)).await.expect("appended");
        producer = end(&broker, 5, producer, commit).await.expect("ended");
    }
    let jobs = broker.broker.jobs();
    for key in ["h", "g", "f"] {
        let (log, jobs) = (broker.broker.log.clone(), jobs.clone());
        tokio::task::spawn_blocking(move || log.keep_house(&jobs)).await.expect("no panic").expect("kept");
        send(&broker, 12, &a, 0, batch(producer, 0, key)).await.expect("appended");
        producer = end(&broker, 5, producer, true).await.expect("ended");
    }
    send(&broker, 12, &a, 0, batch(producer, 0, "open")).await.expect("appended");
    let (log, jobs) = (broker.broker.log.clone(), jobs.clone());
    tokio::task::spawn_blocking(move || log.keep_house(&jobs)).await.expect("no panic").expect("kept");
    let expected = ["k", "j", "i", "h", "g", "f"].map(str::to_owned).to_vec();
    assert_eq!(committed(&broker, &a, 0).await, (expected, 14));
    let request = fetch_request(12, &a, vec![wanted(0, 0)]).with_min_bytes(0);
    let response = fetch(&broker, 12, request).await;
    let left = batches(&response.responses[0].partitions[0]);
    let controls = left.iter().filter(|(header, _)| header.is_control()).count();
    assert_eq!(
        (left.len() - controls, controls),
        (7, 2),
        "the aborted record and the markers that nobody needs are gone"
    );
    end(&broker, 5, producer, true).await.expect("committed");
    let broker = broker.restart().await;
    assert_eq!(committed(&broker, &a, 0).await.0, ["k", "j", "i", "h", "g", "f", "open"]);
}
