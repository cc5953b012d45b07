//! The coordinator as clients meet it: answers, durability, time, restarts.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    SyncGroupRequest,
};
use krocket_protocol::ErrorCode;
use krocket_stack::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::context::text;
use super::embedded;
use super::journal::memory::Memory;
use super::topics::fixed::{Fixed, id_of};
use super::*;

fn settings(_: &str) -> GroupSettings {
    GroupSettings { initial_rebalance_delay_ms: 0, min_session_timeout_ms: 1, ..GroupSettings::default() }
}

fn open(journal: Arc<dyn Journal>) -> Arc<Coordinator> {
    Coordinator::open(journal, Arc::new(Fixed::of(&[("t", 2), ("u", 1)])), settings).expect("opens")
}

fn client(version: i16) -> Client {
    Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned(), version }
}

fn join(id: &str, session_ms: i32) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(embedded::tests::encode(
        1,
        &["t"],
        &[],
    ));
    JoinGroupRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text(id))
        .with_session_timeout_ms(session_ms)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

async fn sync(groups: &Coordinator, joined: &JoinGroupResponse) -> i16 {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    let request = SyncGroupRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
        .with_assignments(vec![assignment]);
    groups.sync_group(request).await.error_code
}

/// A classic member alone in its generation.
async fn member(groups: &Coordinator, session_ms: i32) -> JoinGroupResponse {
    let joined = groups.join_group(client(3), join("", session_ms)).await;
    assert_eq!(joined.error_code, 0);
    assert_eq!(sync(groups, &joined).await, 0);
    joined
}

async fn beat(groups: &Coordinator, id: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    let mut request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text("k").into())
        .with_member_id(text(id))
        .with_member_epoch(epoch);
    if epoch == 0 {
        request = request
            .with_rebalance_timeout_ms(30_000)
            .with_subscribed_topic_names(Some(vec![text("t").into()]))
            .with_topic_partitions(Some(vec![]));
    }
    groups.consumer_group_heartbeat(client(1), request).await
}

fn commit(epoch: i32, member: &str, offset: i64) -> Commit {
    Commit {
        member_id: member.to_owned(),
        instance_id: None,
        epoch,
        version: 9,
        retention_ms: -1,
        transactional: false,
        partitions: vec![CommitPartition {
            topic: "t".to_owned(),
            topic_id: id_of("t"),
            partition: 0,
            offset,
            leader_epoch: 0,
            metadata: "note".to_owned(),
        }],
    }
}

fn committed(groups: &Coordinator, group: &str) -> Option<i64> {
    let wanted = Some(vec![("t".to_owned(), vec![0])]);
    let offsets = groups.fetch_offsets(group, None, -1, wanted).expect("fetches");
    offsets[0].1[0].1.as_ref().map(|offset| offset.offset)
}

/// A log that takes its time: commits wait until they are let through.
#[derive(Default)]
struct Slow {
    memory: Memory,
    waiting: Mutex<VecDeque<(Vec<Write>, oneshot::Sender<()>)>>,
    arrived: tokio::sync::Notify,
}

impl Slow {
    async fn let_through(&self) {
        let arrived = self.arrived.notified();
        let next = self.waiting.lock().pop_front();
        let (writes, done) = match next {
            Some(next) => next,
            None => {
                arrived.await;
                self.waiting.lock().pop_front().expect("one has arrived")
            }
        };
        self.memory.apply(writes);
        let _ = done.send(());
    }
}

impl Journal for Slow {
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), JournalError>> {
        let (done, wait) = oneshot::channel();
        self.waiting.lock().push_back((writes, done));
        self.arrived.notify_waiters();
        Box::pin(async move { wait.await.map_err(|_| JournalError("gone".to_owned())) })
    }

    fn scan(&self, table: u8, prefix: &[u8]) -> Result<Rows, JournalError> {
        self.memory.scan(table, prefix)
    }
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let journal = Arc::new(Slow::default());
    let groups = open(journal.clone());

    let joining = groups.join_group(client(3), join("", 10_000));
    tokio::pin!(joining);
    tokio::select! {
        biased;
        _ = &mut joining => panic!("answered"),
        () = async { while journal.waiting.lock().is_empty() { tokio::task::yield_now().await } } => {}
    }
    assert!(futures_util::poll!(&mut joining).is_pending());
    journal.let_through().await;
    let joined = joining.await;
    assert_eq!(joined.error_code, 0);

    let ((), code) = tokio::join!(journal.let_through(), sync(&groups, &joined));
    assert_eq!(code, 0);

    let first = groups.commit_offsets("g", commit(1, &joined.member_id, 5));
    let second = groups.commit_offsets("g", commit(1, &joined.member_id, 9));
    tokio::pin!(first, second);
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(committed(&groups, "g"), None, "nobody reads what is not on disk");
    journal.let_through().await;
    assert_eq!(first.await, Ok(vec![Ok(())]));
    assert_eq!(committed(&groups, "g"), Some(5));
    // A heartbeat says nothing that waits for the offsets.
    let request = kafka_protocol::messages::HeartbeatRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(1);
    assert_eq!(groups.heartbeat(request).await, Ok(()));
    journal.let_through().await;
    assert_eq!(second.await, Ok(vec![Ok(())]));
    assert_eq!(committed(&groups, "g"), Some(9));
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_its_commit_along() {
    let journal = Arc::new(Memory::default());
    let groups = open(journal.clone());
    {
        let commit = groups.commit_offsets("simple", commit(-1, "", 7));
        tokio::pin!(commit);
        assert!(futures_util::poll!(&mut commit).is_pending());
    }
    assert_eq!(groups.commit_offsets("simple", Commit { partitions: vec![], ..commit(-1, "", 0) }).await, Ok(vec![]));
    while committed(&groups, "simple") != Some(7) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_group_whose_log_fails_goes_back_to_what_is_written() {
    let journal = Arc::new(Memory::default());
    let groups = open(journal.clone());
    assert_eq!(beat(&groups, "a", 0).await.member_epoch, 1);
    *journal.broken.lock() = true;
    let refused = beat(&groups, "b", 0).await;
    assert_eq!(refused.error_code, ErrorCode::CoordinatorNotAvailable.code());
    assert_eq!(groups.commit_offsets("k", commit(1, "a", 5)).await, Err(ErrorCode::CoordinatorNotAvailable));
    *journal.broken.lock() = false;
    assert_eq!(committed(&groups, "k"), None);
    let alive = beat(&groups, "a", 1).await;
    assert_eq!((alive.error_code, alive.member_epoch), (0, 1));
    let described = groups.describe_consumer_group("k");
    assert_eq!((described.members.len(), described.group_epoch), (1, 1));
    assert_eq!(beat(&groups, "b", 0).await.member_epoch, 2);
}

#[tokio::test]
async fn time_runs_for_sessions() {
    let groups = open(Arc::new(Memory::default()));
    let first = member(&groups, 50).await;
    // Waits for the first, which is never heard of again.
    let second = groups.join_group(client(3), join("", 10_000)).await;
    assert_eq!((second.error_code, second.generation_id), (0, 2));
    assert_eq!(second.members.len(), 1);
    assert_ne!(second.member_id, first.member_id);
}

#[tokio::test]
async fn a_restart_finds_everything() {
    let journal = Arc::new(Memory::default());
    let groups = open(journal.clone());
    let joined = member(&groups, 10_000).await;
    assert_eq!(groups.commit_offsets("g", commit(1, &joined.member_id, 5)).await, Ok(vec![Ok(())]));
    assert_eq!(beat(&groups, "a", 0).await.member_epoch, 1);
    drop(groups);
    assert_eq!(Arc::strong_count(&journal), 1, "nothing holds the log, whatever timers run");

    let groups = open(journal.clone());
    assert_eq!(committed(&groups, "g"), Some(5));
    let offsets = groups.fetch_offsets("g", None, -1, None).expect("fetches");
    assert_eq!(offsets[0].1[0].1.as_ref().map(|offset| &*offset.metadata), Some("note"));
    let states: Vec<_> =
        groups.list_groups(&[], &[]).iter().map(|g| (g.group_id.to_string(), g.group_state.to_string())).collect();
    assert!(states.contains(&("g".to_owned(), "Stable".to_owned())), "{states:?}");
    assert_eq!(beat(&groups, "a", 1).await.error_code, 0);
    assert_eq!(groups.commit_offsets("g", commit(1, &joined.member_id, 6)).await, Ok(vec![Ok(())]));
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let groups = open(Arc::new(Memory::default()));
    member(&groups, 10_000).await;
    beat(&groups, "a", 0).await;
    assert_eq!(groups.commit_offsets("simple", commit(-1, "", 7)).await, Ok(vec![Ok(())]));
    let list = |states: &[&str], types: &[&str]| {
        let mut ids: Vec<String> = groups.list_groups(states, types).iter().map(|g| g.group_id.to_string()).collect();
        ids.sort();
        ids.join(",")
    };
    let cases: [(&[&str], &[&str], &str); 7] = [
        (&[], &[], "g,k,simple"),
        (&["stable"], &[], "g,k"),
        (&["Stable", "EMPTY"], &[], "g,k,simple"),
        (&["Dead"], &[], ""),
        (&[], &["consumer"], "k"),
        (&["Empty"], &["Classic"], "simple"),
        (&[], &["share"], ""),
    ];
    for (states, types, expected) in cases {
        assert_eq!(list(states, types), expected, "{states:?} {types:?}");
    }
}

#[tokio::test]
async fn groups_are_described_by_the_api_of_their_type() {
    let groups = open(Arc::new(Memory::default()));
    let joined = member(&groups, 10_000).await;
    beat(&groups, "a", 0).await;

    let group = groups.describe_group("g", 6);
    assert_eq!(
        (group.error_code, &*group.group_state, &*group.protocol_type, &*group.protocol_data),
        (0, "Stable", "consumer", "range")
    );
    assert_eq!((&group.members[0].member_id, &*group.members[0].member_assignment), (&joined.member_id, &b"mine"[..]));
    assert_eq!(&*group.members[0].client_host, "/127.0.0.1");
    for (id, why) in [("k", "Group k is not a classic group."), ("none", "Group none not found.")] {
        let group = groups.describe_group(id, 6);
        assert_eq!((group.error_code, &*group.group_state), (ErrorCode::GroupIdNotFound.code(), "Dead"));
        assert_eq!(group.error_message.as_deref(), Some(why));
        let group = groups.describe_group(id, 5);
        assert_eq!((group.error_code, &*group.group_state, group.error_message), (0, "Dead", None));
    }

    let group = groups.describe_consumer_group("k");
    assert_eq!((group.error_code, &*group.group_state, &*group.assignor_name), (0, "Stable", "uniform"));
    assert_eq!((group.group_epoch, group.assignment_epoch, group.members[0].member_epoch), (1, 1, 1));
    assert_eq!(group.members[0].assignment.topic_partitions[0].partitions, [0, 1]);
    assert_eq!(group.members[0].target_assignment, group.members[0].assignment);
    assert_eq!(group.members[0].member_type, 1);
    assert_eq!(groups.describe_consumer_group("g").error_code, ErrorCode::GroupIdNotFound.code());
}

#[tokio::test]
async fn groups_are_deleted_when_they_are_empty() {
    let journal = Arc::new(Memory::default());
    let groups = open(journal.clone());
    beat(&groups, "a", 0).await;
    assert_eq!(groups.commit_offsets("k", commit(1, "a", 5)).await, Ok(vec![Ok(())]));
    assert_eq!(groups.delete_group("k").await, Err(ErrorCode::NonEmptyGroup));
    assert_eq!(groups.delete_group("none").await, Err(ErrorCode::GroupIdNotFound));
    let subscribed = groups.delete_offsets("k", &[("t".to_owned(), 0), ("u".to_owned(), 0)]).await;
    assert_eq!(subscribed, Ok(vec![Err(ErrorCode::GroupSubscribedToTopic), Ok(())]));
    assert_eq!(beat(&groups, "a", -1).await.member_epoch, -1);
    assert_eq!(groups.delete_offsets("k", &[("t".to_owned(), 0)]).await, Ok(vec![Ok(())]));
    assert_eq!(committed(&groups, "k"), None);
    assert_eq!(groups.delete_group("k").await, Ok(()));
    assert_eq!(groups.delete_group("k").await, Err(ErrorCode::GroupIdNotFound));
    assert!(groups.list_groups(&[], &[]).is_empty());
    assert!(journal.tables.lock().is_empty(), "nothing is left in the log");
    assert_eq!(beat(&groups, "a", 0).await.member_epoch, 3, "epochs go on while it is remembered");
}

#[tokio::test]
async fn what_nobody_uses_expires() {
    let journal = Arc::new(Memory::default());
    let retention = Arc::new(Mutex::new(i64::MAX));
    let groups = {
        let retention = retention.clone();
        let settings = move |_: &str| GroupSettings { offsets_retention_ms: *retention.lock(), ..settings("") };
        Coordinator::open(journal.clone(), Arc::new(Fixed::of(&[("t", 2)])), settings).expect("opens")
    };
    assert_eq!(groups.commit_offsets("simple", commit(-1, "", 7)).await, Ok(vec![Ok(())]));
    beat(&groups, "a", 0).await;
    assert_eq!(groups.commit_offsets("k", commit(1, "a", 5)).await, Ok(vec![Ok(())]));
    groups.expire();
    assert_eq!((committed(&groups, "simple"), committed(&groups, "k")), (Some(7), Some(5)));
    *retention.lock() = 0;
    groups.expire();
    while committed(&groups, "simple").is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(committed(&groups, "k"), Some(5), "it is being read");
    beat(&groups, "a", -1).await;
    groups.expire();
    while !groups.list_groups(&[], &[]).is_empty() {
        tokio::task::yield_now().await;
    }
    groups.expire();
    assert!(journal.tables.lock().is_empty());
    assert!(groups.ids().is_empty(), "not even in memory");
}

#[tokio::test]
async fn a_deleted_topic_takes_its_offsets_along() {
    let groups = open(Arc::new(Memory::default()));
    assert_eq!(groups.commit_offsets("simple", commit(-1, "", 7)).await, Ok(vec![Ok(())]));
    groups.forget_topic("u").await;
    assert_eq!(committed(&groups, "simple"), Some(7));
    groups.forget_topic("t").await;
    assert_eq!(committed(&groups, "simple"), None);
}

#[tokio::test]
async fn requests_are_checked_before_they_make_a_group() {
    let groups = open(Arc::new(Memory::default()));
    let long = "x".repeat(20_000);
    let bad_join = |request: JoinGroupRequest| groups.join_group(client(9), request);
    assert_eq!(
        bad_join(join("", 10_000).with_group_id(text("").into())).await.error_code,
        ErrorCode::InvalidGroupId.code()
    );
    assert_eq!(
        bad_join(join("", 10_000).with_group_id(text(&long).into())).await.error_code,
        ErrorCode::InvalidGroupId.code()
    );
    assert_eq!(bad_join(join("", 0)).await.error_code, ErrorCode::InvalidSessionTimeout.code());
    assert_eq!(bad_join(join("", 1_800_001)).await.error_code, ErrorCode::InvalidSessionTimeout.code());
    assert_eq!(bad_join(join("nobody", 10_000)).await.error_code, ErrorCode::UnknownMemberId.code());

    let base = || {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text("k").into())
            .with_member_id(text("m"))
            .with_rebalance_timeout_ms(1)
            .with_subscribed_topic_names(Some(vec![]))
            .with_topic_partitions(Some(vec![]))
    };
    let cases = [
        (base().with_group_id(text(" ").into()), ErrorCode::InvalidRequest),
        (base().with_member_id(text("")), ErrorCode::InvalidRequest),
        (base().with_member_id(text(&long)), ErrorCode::InvalidRequest),
        (base().with_instance_id(Some(text(""))), ErrorCode::InvalidRequest),
        (base().with_rack_id(Some(text(""))), ErrorCode::InvalidRequest),
        (base().with_rebalance_timeout_ms(-1), ErrorCode::InvalidRequest),
        (base().with_topic_partitions(None), ErrorCode::InvalidRequest),
        (base().with_subscribed_topic_names(None), ErrorCode::InvalidRequest),
        (base().with_member_epoch(-2), ErrorCode::InvalidRequest),
        (base().with_member_epoch(-3), ErrorCode::InvalidRequest),
        (base().with_server_assignor(Some(text("sticky"))), ErrorCode::UnsupportedAssignor),
        (base().with_member_epoch(4), ErrorCode::GroupIdNotFound),
    ];
    for (request, code) in cases {
        let answer = groups.consumer_group_heartbeat(client(1), request.clone()).await;
        assert_eq!(answer.error_code, code.code(), "{request:?}");
        assert!(answer.error_message.is_some_and(|message| !message.is_empty()));
    }
    assert!(groups.ids().len() <= 1 && groups.list_groups(&[], &[]).is_empty());
    // Version 0 leaves the id to the broker.
    let answer = groups.consumer_group_heartbeat(client(0), base().with_member_id(text(""))).await;
    assert_eq!(answer.error_code, 0);
    assert!(answer.member_id.is_some_and(|id| !id.is_empty()));
}
