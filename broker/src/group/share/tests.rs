use std::sync::Arc;

use kafka_protocol::messages::ShareGroupHeartbeatRequest;
use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::state::memory::Memory as State;
use crate::group::context::{Client, text};
use crate::group::coordinator::Coordinator;
use crate::group::error::Refusal;
use crate::group::journal::memory::Memory;
use crate::group::settings::GroupSettings;
use crate::group::testing::{Beat, GROUP, Harness, Join, now};
use crate::group::topics::fixed::{Fixed, id_of};

fn request(group: &str, id: &str, epoch: i32, topics: Option<&[&str]>) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(text(id))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(topics.map(|topics| topics.iter().map(|name| text(name).into()).collect()))
}

fn client() -> Client {
    Client { id: "c".to_owned(), host: "/h".to_owned(), version: 1 }
}

/// What a heartbeat tells: the epoch, and the partitions of `t` and `u` if any are told.
type Told = (i32, Option<[Vec<i32>; 2]>);

fn told(response: &kafka_protocol::messages::ShareGroupHeartbeatResponse) -> Told {
    let of = |name: &str| {
        let topics = response.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
        topics.filter(|topic| topic.topic_id == id_of(name)).flat_map(|topic| topic.partitions.clone()).collect()
    };
    (response.member_epoch, response.assignment.as_ref().map(|_| [of("t"), of("u")]))
}

impl Harness {
    fn share_beat(&mut self, id: &str, epoch: i32, topics: Option<&[&str]>) -> Result<Told, Refusal> {
        let request = request(GROUP, id, epoch, topics);
        let beaten = self.step(|state, ctx| state.share_heartbeat(ctx, &client(), &request))?;
        Ok(told(&beaten.response))
    }

    fn share_join(&mut self, id: &str) -> Told {
        self.share_beat(id, 0, Some(&["t"])).expect("joins")
    }

    /// Partitions of `t` that a member has.
    fn shared(&self, id: &str) -> Vec<i32> {
        self.share().members[id].assigned.get(&id_of("t")).into_iter().flatten().copied().collect()
    }
}

#[test]
fn the_first_member_gets_everything_and_hears_it_once() {
    let mut group = Harness::new(&[("t", 3)]);
    assert_eq!(group.share_join("a"), (1, Some([vec![0, 1, 2], vec![]])));
    assert_eq!(group.share_beat("a", 1, None), Ok((1, None)));
    // Who names its topics again is told again.
    assert_eq!(group.share_beat("a", 1, Some(&["t"])), Ok((1, Some([vec![0, 1, 2], vec![]]))));
    assert_eq!(group.share().state(), "Stable");
}

#[test]
fn members_share_at_once_without_waiting_for_each_other() {
    let mut group = Harness::new(&[("t", 4)]);
    group.share_join("a");
    let (epoch, assigned) = group.share_join("b");
    assert_eq!(epoch, 2);
    let [b, _] = assigned.expect("an assignment");
    assert_eq!(b.len(), 2);
    let (epoch, assigned) = group.share_beat("a", 1, None).expect("lives");
    let [a, _] = assigned.expect("less than before");
    assert_eq!((epoch, a.len()), (2, 2));
    assert!(a.iter().all(|partition| !b.contains(partition)), "{a:?} {b:?}");
    // More members than partitions: everybody has one, two of them the same.
    for id in ["c", "d", "e"] {
        group.share_join(id);
    }
    let epoch = group.share().epoch;
    for id in ["a", "b", "c", "d", "e"] {
        let known = group.share().members[id].epoch;
        assert_eq!(group.share_beat(id, known, None).expect("lives").0, epoch);
        assert!((1..=2).contains(&group.shared(id).len()), "{id}");
    }
}

#[test]
fn epochs_fence() {
    let mut group = Harness::new(&[("t", 4)]);
    group.share_join("a");
    group.share_join("b");
    assert_eq!(group.share_beat("a", 1, None).expect("lives").0, 2);
    for (id, epoch, expected) in [
        ("a", 3, Err(ErrorCode::FencedMemberEpoch)),
        // The answer with epoch 2 got lost.
        ("a", 1, Ok(2)),
        ("a", 2, Ok(2)),
        ("nobody", 2, Err(ErrorCode::UnknownMemberId)),
        ("nobody", -1, Err(ErrorCode::UnknownMemberId)),
        // It may always start over.
        ("a", 0, Ok(2)),
    ] {
        let topics: Option<&[&str]> = (epoch == 0).then_some(&["t"]);
        let result = group.share_beat(id, epoch, topics).map(|(epoch, _)| epoch).map_err(|refusal| refusal.code);
        assert_eq!(result, expected, "{id} {epoch}");
    }
    group.share_join("c");
    group.share_beat("a", 2, None).expect("lives");
    let stale = group.share_beat("a", 1, None).expect_err("two behind");
    assert_eq!(stale.code, ErrorCode::FencedMemberEpoch);
}

#[test]
fn those_who_leave_or_fall_silent_give_their_partitions_to_the_others() {
    let mut group = Harness::new(&[("t", 4)]);
    group.share_join("a");
    group.share_join("b");
    group.share_join("c");
    assert_eq!(group.share_beat("b", -1, None), Ok((-1, None)));
    group.advance(30_000);
    let known = group.share().members["a"].epoch;
    group.share_beat("a", known, None).expect("lives");
    group.advance(15_000);
    assert_eq!(group.share().members.keys().map(|id| &**id).collect::<Vec<_>>(), ["a"], "c was silent for 45 s");
    let known = group.share().members["a"].epoch;
    group.share_beat("a", known, None).expect("lives");
    assert_eq!(group.shared("a"), [0, 1, 2, 3]);
    group.advance(45_000);
    assert_eq!((group.share().state(), group.share().epoch), ("Empty", 6));
}

#[test]
fn assignments_follow_subscriptions_and_topics() {
    let mut group = Harness::new(&[("t", 2)]);
    assert_eq!(group.share_beat("a", 0, Some(&["t", "u"])), Ok((1, Some([vec![0, 1], vec![]]))));
    group.topics.set("u", 1);
    assert_eq!(group.share_beat("a", 1, None), Ok((2, Some([vec![0, 1], vec![0]]))), "a topic that comes later");
    group.topics.set("t", 3);
    assert_eq!(group.share_beat("a", 2, None), Ok((3, Some([vec![0, 1, 2], vec![0]]))));
    assert_eq!(group.share_beat("a", 3, Some(&["u"])), Ok((4, Some([vec![], vec![0]]))));
    group.topics.remove("u");
    assert_eq!(group.share_beat("a", 4, None), Ok((5, Some([vec![], vec![]]))));
    // A topic that nobody reads changes nothing.
    group.topics.set("v", 9);
    assert_eq!(group.share_beat("a", 5, None), Ok((5, None)));
}

#[test]
fn a_full_group_takes_nobody_new() {
    let mut group = Harness::new(&[("t", 2)]);
    group.settings.share_max_size = 2;
    group.share_join("a");
    group.share_join("b");
    assert_eq!(group.share_beat("c", 0, Some(&["t"])).expect_err("full").code, ErrorCode::GroupMaxSizeReached);
    group.share_beat("a", 0, Some(&["t"])).expect("it is in already");
}

#[test]
fn assignments_wait_for_their_interval() {
    let mut group = Harness::new(&[("t", 4)]);
    group.settings.share_assignment_interval = std::time::Duration::from_secs(10);
    assert_eq!(group.share_join("a").0, 1, "the first is not delayed");
    assert_eq!(group.share_join("b"), (1, Some([vec![], vec![]])), "too early");
    group.share_join("c");
    group.advance(10_000);
    assert_eq!(group.share_beat("b", 1, None).expect("lives").0, 3);
    assert_eq!(group.shared("b").len(), 1);
}

#[test]
fn a_group_comes_back_after_a_restart_with_members_and_targets() {
    let mut group = Harness::new(&[("t", 4), ("u", 1)]);
    group.share_beat("a", 0, Some(&["t", "u"])).expect("joins");
    group.share_join("b");
    group.share_beat("a", 1, None).expect("lives");
    let members = group.share().members.clone();
    let (epoch, hash) = (group.share().epoch, group.share().metadata_hash);
    group.restart();
    assert_eq!(group.share().members, members);
    assert_eq!((group.share().epoch, group.share().metadata_hash), (epoch, hash));
    assert_eq!(group.share_beat("a", 2, None), Ok((2, None)), "nothing moves");
    // Members get a whole session to be heard of again.
    group.advance(44_999);
    assert_eq!(group.share().members.len(), 2);
    group.advance(1);
    assert_eq!(group.share().state(), "Empty");
}

#[test]
fn kinds_of_groups_do_not_mix() {
    let not_found = ErrorCode::GroupIdNotFound;
    let mut group = Harness::new(&[("t", 1)]);
    assert_eq!(group.share_beat("a", 1, None).expect_err("none").code, not_found);
    group.share_join("a");
    assert_eq!(group.beat(&Beat::join("b", &["t"])).expect_err("shared").code, not_found);
    assert_eq!(now(group.join(&Join::default())).error_code, ErrorCode::InconsistentGroupProtocol.code());
    assert_eq!(group.heartbeat("a", 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(now(group.sync("a", 1, &[])).error_code, ErrorCode::UnknownMemberId.code());
    assert_eq!(group.leave(&[("a", None)]), [Err(ErrorCode::UnknownMemberId)]);
    assert_eq!(group.commit("", -1, 9), Err(not_found));
    assert_eq!(group.state.validate_fetch(None, -1), Err(not_found));
    assert_eq!(group.step(|state, ctx| state.delete_offsets(ctx, &[("t".to_owned(), 0)])), Err(not_found));
    assert_eq!(group.step(|state, ctx| state.delete(ctx)), Err(ErrorCode::NonEmptyGroup));
    // Empty it stays what it is, and time does not remove it.
    group.share_beat("a", -1, None).expect("leaves");
    group.now_ms += 365 * 86_400_000;
    group.step(|state, ctx| state.expire(ctx));
    assert_eq!(now(group.join(&Join::default())).error_code, ErrorCode::InconsistentGroupProtocol.code());
    // Deleted it may become anything, with epochs that go on.
    assert_eq!(group.step(|state, ctx| state.delete(ctx)), Ok(()));
    assert!(!group.state.exists());
    assert_eq!(group.beat(&Beat::join("b", &["t"])).expect("joins").member_epoch, 3);

    let mut group = Harness::new(&[("t", 1)]);
    group.beat(&Beat::join("b", &["t"])).expect("joins");
    assert_eq!(group.share_beat("a", 0, Some(&["t"])).expect_err("a consumer group").code, not_found);
    let mut group = Harness::new(&[("t", 1)]);
    group.commit("", -1, 9).expect("a group that only has offsets");
    assert_eq!(group.share_beat("a", 0, Some(&["t"])).expect_err("a classic group").code, not_found);
}

fn coordinator() -> (Arc<Coordinator>, Arc<State>, Arc<Memory>) {
    let journal = Arc::new(Memory::default());
    let coordinator = reopen(&journal);
    let state = Arc::new(State::default());
    coordinator.set_share_state(state.clone());
    (coordinator, state, journal)
}

fn reopen(journal: &Arc<Memory>) -> Arc<Coordinator> {
    let topics = Arc::new(Fixed::of(&[("t", 2), ("u", 1)]));
    Coordinator::open(journal.clone(), topics, |_| GroupSettings::default()).expect("opens")
}

#[tokio::test]
async fn requests_are_checked_before_any_group_is_made() {
    let (groups, ..) = coordinator();
    for (request, why) in [
        (request("g", "", 0, Some(&["t"])), "MemberId can't be empty."),
        (request(" ", "a", 0, Some(&["t"])), "GroupId can't be empty."),
        (request("g", "a", 0, Some(&["t"])).with_rack_id(Some(text(""))), "RackId can't be empty."),
        (request("g", "a", 0, None), "SubscribedTopicNames must be set in first request."),
        (request("g", "a", 0, Some(&[])), "SubscribedTopicNames must be set in first request."),
        (request("g", "a", -2, None), "MemberEpoch is invalid."),
        (request(&"g".repeat(20_000), "a", 0, Some(&["t"])), "GroupId or MemberId is too long."),
    ] {
        let answer = groups.share_group_heartbeat(client(), request).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code(), "{why}");
        assert_eq!(answer.error_message.as_deref(), Some(why));
    }
    let answer = groups.share_group_heartbeat(client(), request("g", "a", 3, None)).await;
    assert_eq!(answer.error_code, ErrorCode::GroupIdNotFound.code());
    assert!(groups.ids().is_empty());
}

#[tokio::test]
async fn share_partitions_hear_what_is_subscribed_and_who_is_a_member() {
    let (groups, state, journal) = coordinator();
    assert_eq!(groups.share_group_heartbeat(client(), request("g", "a", 0, Some(&["t", "x"]))).await.error_code, 0);
    groups.share_group_heartbeat(client(), request("g", "a", 1, None)).await;
    assert_eq!(*state.subscriptions.lock(), [("g".to_owned(), vec![id_of("t")])], "once, and only what exists");
    assert_eq!(groups.share_member("g", "a"), Ok(()));
    assert_eq!(groups.share_member("g", "b"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(groups.share_member("h", "a"), Err(ErrorCode::GroupIdNotFound));
    assert!(groups.is_share("g") && !groups.is_share("h"));
    assert_eq!(groups.share_subscribed("g"), [id_of("t")]);

    let groups = reopen(&journal);
    let state = Arc::new(State::default());
    groups.set_share_state(state.clone());
    assert_eq!(*state.subscriptions.lock(), [("g".to_owned(), vec![id_of("t")])], "after a restart");
}

#[tokio::test]
async fn groups_are_described_and_listed() {
    let (groups, ..) = coordinator();
    groups.share_group_heartbeat(client(), request("g", "a", 0, Some(&["t"])).with_rack_id(Some(text("r")))).await;
    let described = groups.describe_share_group("g");
    assert_eq!((described.group_state.as_str(), described.assignor_name.as_str()), ("Stable", "simple"));
    assert_eq!((described.group_epoch, described.assignment_epoch), (1, 1));
    let member = &described.members[0];
    assert_eq!((member.member_id.as_str(), member.member_epoch, member.rack_id.as_deref()), ("a", 1, Some("r")));
    assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("c", "/h"));
    assert_eq!(member.assignment.topic_partitions[0].topic_name.as_str(), "t");
    assert_eq!(member.assignment.topic_partitions[0].partitions, [0, 1]);
    assert_eq!(groups.describe_share_group("h").error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(groups.describe_share_group("").error_code, ErrorCode::InvalidGroupId.code());
    assert_eq!(groups.describe_consumer_group("g").error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(groups.describe_group("g", 6).error_code, ErrorCode::GroupIdNotFound.code());

    for (states, types, expected) in
        [(&[][..], &[][..], 1), (&["stable"], &["share"], 1), (&["Empty"], &[], 0), (&[], &["consumer", "classic"], 0)]
    {
        let listed = groups.list_groups(states, types);
        assert_eq!(listed.len(), expected, "{states:?} {types:?}");
        if let Some(group) = listed.first() {
            assert_eq!((group.group_type.as_str(), group.protocol_type.as_str()), ("Share", "share"));
        }
    }
}

#[tokio::test]
async fn offsets_are_altered_and_deleted_only_without_members() {
    let (groups, state, _) = coordinator();
    let start = |topic: &str, partition, offset| (id_of(topic), partition, offset);
    // It need not be there.
    let altered = groups.alter_share_offsets("g", &[start("t", 0, 7), start("u", 0, 8)]).await;
    assert_eq!(altered, Ok(vec![Ok(()), Ok(())]));
    assert!(groups.is_share("g"));
    let offsets = |group: &str| -> Vec<(Uuid, i32, Option<i64>)> {
        let offsets = groups.share_offsets(group).expect("there is state");
        offsets.into_iter().map(|offset| (offset.topic, offset.partition, offset.start)).collect()
    };
    assert_eq!(offsets("g"), [(id_of("t"), 0, Some(7)), (id_of("u"), 0, Some(8))]);
    assert_eq!(offsets("h"), []);
    groups.delete_share_offsets("g", &[id_of("u")]).await.expect("empty");
    assert_eq!(offsets("g"), [(id_of("t"), 0, Some(7))]);

    // The alteration was an epoch: members see that something happened.
    assert_eq!(groups.share_group_heartbeat(client(), request("g", "a", 0, Some(&["t"]))).await.member_epoch, 2);
    let code = |result: Result<_, Refusal>| result.map_err(|refusal| refusal.code);
    let altered = groups.alter_share_offsets("g", &[start("t", 0, 1)]).await;
    assert_eq!(code(altered.map(drop)), Err(ErrorCode::NonEmptyGroup));
    assert_eq!(code(groups.delete_share_offsets("g", &[]).await), Err(ErrorCode::NonEmptyGroup));
    assert_eq!(code(groups.delete_share_offsets("h", &[]).await), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(code(groups.alter_share_offsets("", &[]).await.map(drop)), Err(ErrorCode::InvalidGroupId));
    assert_eq!(groups.delete_group("g").await, Err(ErrorCode::NonEmptyGroup));
    let read = [(id_of("t"), 0, Some(7)), (id_of("t"), 1, None)];
    assert_eq!(offsets("g"), read, "nothing of it was lost, and what members read is there as well");

    groups.share_group_heartbeat(client(), request("g", "a", -1, None)).await;
    assert_eq!(groups.delete_group("g").await, Ok(()));
    assert!(state.groups.lock().is_empty() && !groups.is_share("g"));
    assert_eq!(groups.delete_group("g").await, Err(ErrorCode::GroupIdNotFound));
}

#[tokio::test]
async fn a_failed_write_takes_the_member_back() {
    let (groups, state, journal) = coordinator();
    groups.share_group_heartbeat(client(), request("g", "a", 0, Some(&["t"]))).await;
    *journal.broken.lock() = true;
    let refused = groups.share_group_heartbeat(client(), request("g", "b", 0, Some(&["u"]))).await;
    assert_eq!(refused.error_code, ErrorCode::CoordinatorNotAvailable.code());
    *journal.broken.lock() = false;
    assert_eq!(groups.share_member("g", "b"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(groups.share_member("g", "a"), Ok(()));
    assert_eq!(state.subscriptions.lock().len(), 1);
}
