use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_heartbeat::{
    CopartitionGroup, Endpoint, StatusCode, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, Subtopology,
    TaskIds, TopicInfo, Topology,
};

use super::StreamsGroup;
use super::member::{Task, tasks};
use crate::group::commit::{Commit, CommitPartition};
use crate::group::context::{Client, text};
use crate::group::error::Refusal;
use crate::group::state::Kind;
use crate::group::testing::Harness;
use crate::group::topics::fixed::id_of;

/// Reads `in`, counts by way of `g-counts-repartition` into a store.
fn word_count() -> Topology {
    let repartition = || TopicInfo { name: text("g-counts-repartition"), ..TopicInfo::default() };
    let changelog = TopicInfo { name: text("g-counts-changelog"), ..TopicInfo::default() };
    let split = Subtopology {
        subtopology_id: text("0"),
        source_topics: vec![text("in")],
        repartition_sink_topics: vec![text("g-counts-repartition")],
        ..Subtopology::default()
    };
    let count = Subtopology {
        subtopology_id: text("1"),
        repartition_source_topics: vec![repartition()],
        state_changelog_topics: vec![changelog],
        ..Subtopology::default()
    };
    Topology { epoch: 0, subtopologies: vec![split, count] }
}

fn join(member: &str) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: text("g"),
        member_id: text(member),
        rebalance_timeout_ms: 10_000,
        process_id: Some(text(&format!("process of {member}"))),
        topology: Some(word_count()),
        active_tasks: Some(vec![]),
        standby_tasks: Some(vec![]),
        warmup_tasks: Some(vec![]),
        ..StreamsGroupHeartbeatRequest::default()
    }
}

fn beat(member: &str, epoch: i32) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: text("g"),
        member_id: text(member),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..StreamsGroupHeartbeatRequest::default()
    }
}

/// A beat that says what the member has.
fn owning(member: &str, epoch: i32, active: Vec<TaskIds>) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        active_tasks: Some(active),
        standby_tasks: Some(vec![]),
        warmup_tasks: Some(vec![]),
        ..beat(member, epoch)
    }
}

fn ids(subtopology: &str, partitions: &[i32]) -> TaskIds {
    TaskIds { subtopology_id: text(subtopology), partitions: partitions.to_vec() }
}

impl Harness {
    fn streams_beat(
        &mut self,
        request: &StreamsGroupHeartbeatRequest,
    ) -> Result<StreamsGroupHeartbeatResponse, Refusal> {
        let beaten = self.step(|state, ctx| state.streams_heartbeat(ctx, &Client::default(), request))?;
        for (name, topic) in beaten.missing {
            self.topics.set(&name, topic.partitions);
        }
        Ok(beaten.response)
    }

    fn streams(&self) -> &StreamsGroup {
        match &self.state.kind {
            Kind::Streams(group) => group,
            other => panic!("not a streams group: {other:?}"),
        }
    }
}

/// No delay, and `in` with so many partitions.
fn harness(partitions: i32) -> Harness {
    let mut harness = Harness::new(&[("in", partitions)]);
    harness.settings.streams_initial_rebalance_delay_ms = 0;
    harness
}

/// Joins and beats until the member's tasks are there.
fn joined(harness: &mut Harness, member: &str) -> StreamsGroupHeartbeatResponse {
    let response = harness.streams_beat(&join(member)).expect("joins");
    if status(&response).is_empty() {
        return response;
    }
    harness.streams_beat(&beat(member, response.member_epoch)).expect("goes on")
}

fn status(response: &StreamsGroupHeartbeatResponse) -> Vec<i8> {
    response.status.iter().flatten().map(|status| status.status_code).collect()
}

fn active(response: &StreamsGroupHeartbeatResponse) -> Vec<Task> {
    tasks(response.active_tasks.as_deref().expect("an assignment")).into_iter().collect()
}

#[test]
fn internal_topics_come_first_and_tasks_then() {
    let mut harness = harness(2);
    let response = harness.streams_beat(&join("a")).expect("joins");
    assert_eq!(status(&response), [StatusCode::MissingInternalTopics as i8]);
    assert_eq!(active(&response), []);
    assert_eq!(harness.streams().state(), "NotReady");
    let count = |name| harness.topics.0.lock().1[name].1;
    assert_eq!((count("g-counts-repartition"), count("g-counts-changelog")), (2, 2));
    let response = harness.streams_beat(&beat("a", response.member_epoch)).expect("goes on");
    assert_eq!(status(&response), [] as [i8; 0]);
    let task = |id: &str, partition| (id.to_owned(), partition);
    assert_eq!(active(&response), [task("0", 0), task("0", 1), task("1", 0), task("1", 1)]);
    assert_eq!(harness.streams().state(), "Stable");
}

#[test]
fn missing_source_topics_are_told_and_looked_for_again() {
    let mut harness = harness(2);
    harness.topics.remove("in");
    let response = harness.streams_beat(&join("a")).expect("joins");
    assert_eq!(status(&response), [StatusCode::MissingSourceTopics as i8]);
    harness.topics.set("in", 1);
    let response = harness.streams_beat(&beat("a", response.member_epoch)).expect("goes on");
    assert_eq!(status(&response), [StatusCode::MissingInternalTopics as i8]);
    let response = harness.streams_beat(&beat("a", response.member_epoch)).expect("goes on");
    assert_eq!(active(&response).len(), 2);
}

#[test]
fn topics_that_do_not_fit_one_another_are_told() {
    let mut harness = harness(2);
    harness.topics.set("other", 3);
    let mut request = join("a");
    let topology = request.topology.as_mut().expect("a topology");
    topology.subtopologies[0].source_topics.push(text("other"));
    topology.subtopologies[0].copartition_groups =
        vec![CopartitionGroup { source_topics: vec![0, 1], ..CopartitionGroup::default() }];
    let response = harness.streams_beat(&request).expect("joins");
    assert_eq!(status(&response), [StatusCode::IncorrectlyPartitionedTopics as i8]);
    harness.topics.set("other", 2);
    harness.topics.set("g-counts-changelog", 5);
    let response = harness.streams_beat(&beat("a", response.member_epoch)).expect("goes on");
    assert_eq!(status(&response), [StatusCode::IncorrectlyPartitionedTopics as i8]);
}

#[test]
fn a_topology_that_cannot_be_is_refused() {
    let mut harness = harness(2);
    type Change = fn(&mut Subtopology);
    let cases: [(&str, ErrorCode, Change); 5] = [
        ("nothing to read", ErrorCode::StreamsInvalidTopology, |part| part.source_topics.clear()),
        ("a bad name", ErrorCode::StreamsInvalidTopology, |part| part.source_topics[0] = text("a/b")),
        ("an index beyond", ErrorCode::StreamsInvalidTopology, |part| {
            part.copartition_groups = vec![CopartitionGroup { source_topics: vec![7], ..CopartitionGroup::default() }];
        }),
        ("a sink that nobody writes", ErrorCode::StreamsInvalidTopology, |part| part.repartition_sink_topics.clear()),
        ("a pattern", ErrorCode::InvalidRequest, |part| part.source_topic_regex = vec![text("in.*")]),
    ];
    for (what, code, change) in cases {
        let mut request = join("a");
        change(&mut request.topology.as_mut().expect("a topology").subtopologies[0]);
        assert_eq!(harness.streams_beat(&request).expect_err(what).code, code, "{what}");
    }
    assert!(!harness.state.exists(), "a refused member brings no group into being");
    joined(&mut harness, "a");
    let mut request = join("b");
    request.topology.as_mut().expect("a topology").subtopologies.pop();
    assert_eq!(harness.streams_beat(&request).expect_err("another").code, ErrorCode::InvalidRequest);
}

#[test]
fn a_task_is_taken_up_only_when_it_was_given_up() {
    let mut harness = harness(2);
    let a = joined(&mut harness, "a");
    let all = a.active_tasks.clone().expect("tasks");
    let b = joined(&mut harness, "b");
    assert_eq!(active(&b), [], "a has everything still");
    assert_eq!(harness.streams().state(), "Reconciling");

    let told = harness.streams_beat(&owning("a", a.member_epoch, all.clone())).expect("goes on");
    assert_eq!((told.member_epoch, active(&told).len()), (a.member_epoch, 2));
    let b = harness.streams_beat(&beat("b", b.member_epoch)).expect("goes on");
    assert!(b.active_tasks.is_none(), "nothing has changed");
    let same = harness.streams_beat(&owning("a", a.member_epoch, all)).expect("goes on");
    assert_eq!(same.member_epoch, a.member_epoch, "it has not given up yet");

    let kept = told.active_tasks.expect("tasks");
    let a = harness.streams_beat(&owning("a", a.member_epoch, kept)).expect("goes on");
    assert_eq!(a.member_epoch, harness.streams().epoch);
    let b = harness.streams_beat(&beat("b", b.member_epoch)).expect("goes on");
    assert_eq!(active(&b).len(), 2);
    assert_eq!(harness.streams().state(), "Stable");
}

#[test]
fn who_does_not_give_up_in_time_is_removed() {
    let mut harness = harness(2);
    let a = joined(&mut harness, "a");
    let b = joined(&mut harness, "b");
    harness.streams_beat(&beat("a", a.member_epoch)).expect("is told to give up");
    harness.advance(9_999);
    assert_eq!(harness.streams().members.len(), 2);
    harness.advance(2);
    assert_eq!(harness.streams().members.len(), 1);
    let b = harness.streams_beat(&beat("b", b.member_epoch)).expect("goes on");
    assert_eq!(active(&b).len(), 4);
    let refused = harness.streams_beat(&beat("a", a.member_epoch)).expect_err("is gone");
    assert_eq!(refused.code, ErrorCode::UnknownMemberId);
}

#[test]
fn who_is_silent_or_leaves_goes() {
    let mut harness = harness(1);
    joined(&mut harness, "a");
    harness.advance(44_999);
    let b = joined(&mut harness, "b");
    harness.advance(2);
    assert_eq!(harness.streams().members.keys().map(|id| &**id).collect::<Vec<_>>(), ["b"]);
    let b = harness.streams_beat(&beat("b", b.member_epoch)).expect("goes on");
    assert_eq!(active(&b).len(), 2);
    let left = harness.streams_beat(&beat("b", -1)).expect("leaves");
    assert_eq!(left.member_epoch, -1);
    assert_eq!(harness.streams().state(), "Empty");
}

#[test]
fn the_first_tasks_wait_for_more_members() {
    let mut harness = harness(2);
    harness.settings.streams_initial_rebalance_delay_ms = 3_000;
    let a = harness.streams_beat(&join("a")).expect("joins");
    let delayed = StatusCode::AssignmentDelayed as i8;
    assert_eq!(status(&a), [delayed, StatusCode::MissingInternalTopics as i8]);
    assert!(a.member_epoch > 0, "0 would mean to join again");
    harness.advance(1_000);
    let b = harness.streams_beat(&join("b")).expect("joins");
    assert_eq!((status(&b), active(&b)), (vec![delayed], vec![]));
    harness.advance(2_001);
    for (member, epoch) in [("a", a.member_epoch), ("b", b.member_epoch)] {
        let response = harness.streams_beat(&beat(member, epoch)).expect("goes on");
        assert_eq!((status(&response), active(&response).len()), (vec![], 2), "{member}");
    }
}

#[test]
fn standbys_follow_tasks_with_a_state_and_take_over() {
    let mut harness = harness(2);
    harness.settings.streams_num_standby_replicas = 1;
    let a = joined(&mut harness, "a");
    let b = joined(&mut harness, "b");
    let told = harness.streams_beat(&beat("a", a.member_epoch)).expect("is told");
    let kept = told.active_tasks.clone().expect("tasks");
    let a = harness.streams_beat(&owning("a", a.member_epoch, kept)).expect("gives up");
    let b = harness.streams_beat(&beat("b", b.member_epoch)).expect("goes on");
    let (of_a, of_b) = (&harness.streams().members["a"].assigned, &harness.streams().members["b"].assigned);
    let stateful = |tasks: &super::Owned| tasks.active.keys().filter(|task| task.0 == "1").cloned().collect::<Vec<_>>();
    assert_eq!(of_b.standby.iter().cloned().collect::<Vec<_>>(), stateful(of_a));
    assert_eq!(of_a.standby.iter().cloned().collect::<Vec<_>>(), stateful(of_b));
    assert_eq!(harness.streams().state(), "Stable");

    harness.streams_beat(&beat("b", -1)).expect("leaves");
    let a = harness.streams_beat(&beat("a", a.member_epoch)).expect("goes on");
    assert_eq!((active(&a).len(), a.standby_tasks.expect("told").len()), (4, 0));
    assert!(b.active_tasks.is_some());
}

#[test]
fn a_process_with_two_members_has_no_task_twice() {
    let mut harness = harness(3);
    harness.settings.streams_num_standby_replicas = 1;
    let process = |member: &str| StreamsGroupHeartbeatRequest { process_id: Some(text("one")), ..join(member) };
    for member in ["a", "b"] {
        harness.streams_beat(&process(member)).expect("joins");
    }
    for _ in 0..4 {
        for member in ["a", "b"] {
            let now = &harness.streams().members[member];
            let (epoch, owned) = (now.epoch, super::member::task_ids(now.assigned.active.keys()));
            harness.streams_beat(&owning(member, epoch, owned)).expect("goes on");
        }
    }
    assert_eq!(harness.streams().state(), "Stable");
    assert!(harness.streams().members.values().all(|member| member.assigned.standby.is_empty()));
}

#[test]
fn epochs_are_checked_and_a_lost_answer_is_forgiven() {
    let mut harness = harness(1);
    let first = harness.streams_beat(&join("a")).expect("joins");
    let second = harness.streams_beat(&beat("a", first.member_epoch)).expect("goes on");
    assert!(second.member_epoch > first.member_epoch);
    harness.streams_beat(&owning("a", first.member_epoch, vec![])).expect("did not get the answer");
    let tasks = second.active_tasks.clone().expect("tasks");
    harness.streams_beat(&owning("a", first.member_epoch, tasks)).expect("what it has is its own");
    for epoch in [first.member_epoch - 1, second.member_epoch + 1] {
        let refused = harness.streams_beat(&owning("a", epoch, vec![])).expect_err("fenced");
        assert_eq!(refused.code, ErrorCode::FencedMemberEpoch, "{epoch}");
    }
    let refused = harness.streams_beat(&owning("a", second.member_epoch, vec![ids("7", &[0])]));
    assert_eq!(refused.expect_err("no such task").code, ErrorCode::InvalidRequest);
}

#[test]
fn a_static_member_comes_back_to_its_tasks() {
    let mut harness = harness(2);
    let request = |id: &str| StreamsGroupHeartbeatRequest { instance_id: Some(text("i")), ..join(id) };
    let first = harness.streams_beat(&request("a")).expect("joins");
    let a = harness.streams_beat(&beat("a", first.member_epoch)).expect("goes on");
    assert_eq!(harness.streams_beat(&request("b")).expect_err("in use").code, ErrorCode::UnreleasedInstanceId);
    let leave = StreamsGroupHeartbeatRequest { instance_id: Some(text("i")), ..beat("a", -2) };
    assert_eq!(harness.streams_beat(&leave).expect("leaves for a while").member_epoch, -2);
    let again = StreamsGroupHeartbeatRequest { process_id: Some(text("process of a")), ..request("b") };
    let b = harness.streams_beat(&again).expect("joins");
    assert_eq!((b.member_epoch, active(&b).len()), (a.member_epoch, 4));
    let old = StreamsGroupHeartbeatRequest { instance_id: Some(text("i")), ..beat("a", a.member_epoch) };
    assert_eq!(harness.streams_beat(&old).expect_err("fenced").code, ErrorCode::FencedInstanceId);
}

#[test]
fn processes_learn_where_the_others_answer() {
    let mut harness = harness(1);
    let endpoint = |port| Some(Endpoint { host: text("host"), port });
    let mut request = join("a");
    request.user_endpoint = endpoint(8080);
    let response = harness.streams_beat(&request).expect("joins");
    let response = harness.streams_beat(&beat("a", response.member_epoch)).expect("goes on");
    let told = response.partitions_by_user_endpoint.expect("told");
    let topics: Vec<_> = told[0].active_partitions.iter().map(|topic| (&*topic.topic, &topic.partitions[..])).collect();
    assert_eq!(told[0].user_endpoint, endpoint(8080).expect("set"));
    assert_eq!(topics, [("g-counts-repartition", &[0][..]), ("in", &[0])]);
    let mut request = beat("a", response.member_epoch);
    request.endpoint_information_epoch = response.endpoint_information_epoch;
    assert_eq!(harness.streams_beat(&request).expect("goes on").partitions_by_user_endpoint, None);
}

#[test]
fn one_member_can_shut_down_all() {
    let mut harness = harness(1);
    let a = joined(&mut harness, "a");
    let mut request = beat("a", a.member_epoch);
    request.shutdown_application = true;
    harness.streams_beat(&request).expect("goes on");
    let b = harness.streams_beat(&join("b")).expect("joins");
    assert_eq!(status(&b), [StatusCode::ShutdownApplication as i8]);
    for member in ["a", "b"] {
        harness.streams_beat(&beat(member, -1)).expect("leaves");
    }
    assert_eq!(status(&joined(&mut harness, "c")), [] as [i8; 0], "a new start");
}

#[test]
fn members_commit_what_they_process() {
    let mut harness = harness(2);
    let a = joined(&mut harness, "a");
    let commit = |member: &str, epoch, partition| Commit {
        member_id: member.to_owned(),
        instance_id: None,
        epoch,
        version: 9,
        retention_ms: -1,
        transactional: true,
        partitions: vec![CommitPartition {
            topic: "in".to_owned(),
            topic_id: id_of("in"),
            partition,
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    };
    let mut try_commit = |commit| harness.step(|state, ctx| state.commit(ctx, commit)).map(|_| ());
    assert_eq!(try_commit(commit("a", a.member_epoch, 0)), Ok(()));
    assert_eq!(try_commit(commit("a", a.member_epoch - 1, 0)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(try_commit(commit("a", a.member_epoch + 1, 0)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(try_commit(commit("x", a.member_epoch, 0)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(try_commit(commit("", -1, 0)), Ok(()), "a producer knows no member");
}

#[test]
fn a_restart_changes_nothing() {
    let mut harness = harness(2);
    let a = joined(&mut harness, "a");
    joined(&mut harness, "b");
    harness.streams_beat(&beat("a", a.member_epoch)).expect("is told to give up");
    let before = (harness.streams().epoch, harness.streams().members.clone(), harness.streams().topology.clone());
    harness.restart();
    let group = harness.streams();
    assert_eq!((group.epoch, group.members.clone(), group.topology.clone()), before);
    assert_eq!(group.state(), "Reconciling");
    let kept = super::member::task_ids(group.members["a"].assigned.active.keys());
    harness.streams_beat(&owning("a", a.member_epoch, kept)).expect("gives up");
    assert_eq!(harness.streams().epoch, before.0, "nothing has changed");
    harness.advance(50_000);
    assert_eq!(harness.streams().state(), "Empty", "sessions run again");
    harness.step(|state, ctx| state.delete(ctx)).expect("deleted");
    harness.restart();
    assert!(!harness.state.exists());
}
