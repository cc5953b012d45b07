//! The group APIs, asked as clients ask them: through their bytes, at every version, over a real log.

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};

use super::testing::{NODE, TestBroker, error, text, topic};
use crate::topics::{Edit, NewTopic};

/// A broker whose groups don't wait, with a topic `t` of two partitions.
async fn start() -> TestBroker {
    let broker = TestBroker::with(&[("group.initial.rebalance.delay.ms", "0")]).await;
    create(&broker, "t", 2).await;
    broker
}

async fn create(broker: &TestBroker, name: &str, partitions: u32) {
    let change = broker.broker.topics.change().await;
    let new = NewTopic { name: name.to_owned(), id: change.new_id(), partitions, configs: Default::default() };
    change.commit(vec![Edit::Create(new)]).await.expect("created");
}

async fn delete(broker: &TestBroker, name: &str) {
    let topic = broker.broker.topics.get(name).expect("there");
    let change = broker.broker.topics.change().await;
    change.commit(vec![Edit::Delete(topic)]).await.expect("deleted");
}

async fn join(broker: &TestBroker, version: i16, id: StrBytes) -> JoinGroupResponse {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(&[0; 10]));
    let request = JoinGroupRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(id)
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version >= 1 { 60_000 } else { -1 })
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    broker.ask(ApiKey::JoinGroup, version, request).await
}

/// A classic member alone in its generation, at this version: its id and generation.
async fn member(broker: &TestBroker, version: i16) -> (StrBytes, i32) {
    let mut joined = join(broker, version, StrBytes::new()).await;
    if version >= 4 {
        assert_eq!(error(joined.error_code), Some(ErrorCode::MemberIdRequired));
        joined = join(broker, version, joined.member_id).await;
    }
    assert_eq!(error(joined.error_code), None, "version {version}");
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    assert_eq!(joined.protocol_name, Some(text("range")));
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let request = SyncGroupRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
        .with_assignments(vec![assignment]);
    let synced: SyncGroupResponse = broker.ask(ApiKey::SyncGroup, version.min(5), request).await;
    assert_eq!((error(synced.error_code), &*synced.assignment), (None, &b"all"[..]));
    (joined.member_id, joined.generation_id)
}

fn offset_commit(group: &'static str, member: StrBytes, epoch: i32, partitions: &[(i32, i64)]) -> OffsetCommitRequest {
    let partition = |(index, offset): &(i32, i64)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text("note")))
    };
    let of_topic = OffsetCommitRequestTopic::default()
        .with_name(topic("t"))
        .with_partitions(partitions.iter().map(partition).collect());
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(member)
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![of_topic])
}

fn commit_codes(response: &OffsetCommitResponse) -> Vec<Option<ErrorCode>> {
    response.topics.iter().flat_map(|topic| &topic.partitions).map(|p| error(p.error_code)).collect()
}

/// Committed offset and metadata of `t`, partition 0; (-1, "") for none.
async fn committed(broker: &TestBroker, version: i16, group: &'static str) -> (i64, String) {
    let request = OffsetFetchRequest::default();
    if version < 8 {
        let asked = OffsetFetchRequestTopic::default().with_name(topic("t")).with_partition_indexes(vec![0]);
        let request = request.with_group_id(text(group).into()).with_topics(Some(vec![asked]));
        let response: OffsetFetchResponse = broker.ask(ApiKey::OffsetFetch, version, request).await;
        let partition = &response.topics[0].partitions[0];
        return (partition.committed_offset, partition.metadata.clone().expect("metadata").to_string());
    }
    let asked = OffsetFetchRequestTopics::default().with_name(topic("t")).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(Some(vec![asked]));
    let response: OffsetFetchResponse =
        broker.ask(ApiKey::OffsetFetch, version, request.with_groups(vec![group])).await;
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.committed_offset, partition.metadata.clone().expect("metadata").to_string())
}

#[tokio::test]
async fn a_classic_consumer_lives_at_every_version() {
    let broker = start().await;
    for version in 0..=9 {
        let (id, generation) = member(&broker, version).await;
        let request = HeartbeatRequest::default()
            .with_group_id(text("g").into())
            .with_member_id(id.clone())
            .with_generation_id(generation);
        let beat: HeartbeatResponse = broker.ask(ApiKey::Heartbeat, version.min(4), request).await;
        assert_eq!(error(beat.error_code), None);

        let at = i64::from(version) + 5;
        let request = offset_commit("g", id.clone(), generation, &[(0, at), (7, at)]);
        let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, version.max(2), request).await;
        assert_eq!(commit_codes(&response), [None, Some(ErrorCode::UnknownTopicOrPartition)]);
        assert_eq!(committed(&broker, version.max(1), "g").await, (at, "note".to_owned()));

        let request = DescribeGroupsRequest::default().with_groups(vec![text("g").into()]);
        let request = request.with_include_authorized_operations(version >= 3);
        let described: DescribeGroupsResponse = broker.ask(ApiKey::DescribeGroups, version.min(6), request).await;
        assert_eq!((&*described.groups[0].group_state, described.groups[0].members.len()), ("Stable", 1));
        assert_eq!(described.groups[0].authorized_operations, if version >= 3 { 3400 } else { i32::MIN });

        let listed: ListGroupsResponse =
            broker.ask(ApiKey::ListGroups, version.min(5), ListGroupsRequest::default()).await;
        assert_eq!((&*listed.groups[0].group_id, &*listed.groups[0].protocol_type), (&text("g"), "consumer"));

        let leave = LeaveGroupRequest::default().with_group_id(text("g").into());
        let leave = match version {
            0..3 => leave.with_member_id(id),
            _ => leave.with_members(vec![MemberIdentity::default().with_member_id(id)]),
        };
        let left: LeaveGroupResponse = broker.ask(ApiKey::LeaveGroup, version.min(5), leave.clone()).await;
        assert_eq!((left.error_code, left.members.iter().all(|member| member.error_code == 0)), (0, true));
        let again: LeaveGroupResponse = broker.ask(ApiKey::LeaveGroup, version.min(5), leave).await;
        let code = again.members.first().map_or(again.error_code, |member| member.error_code);
        assert_eq!(error(code), Some(ErrorCode::UnknownMemberId));
    }
}

#[tokio::test]
async fn errors_are_answered_at_every_version() {
    let broker = start().await;
    for version in 0..=9 {
        let joined = join(&broker, version, text("nobody")).await;
        assert_eq!(error(joined.error_code), Some(ErrorCode::UnknownMemberId));
        let request = SyncGroupRequest::default().with_group_id(text("none").into());
        let synced: SyncGroupResponse = broker.ask(ApiKey::SyncGroup, version.min(5), request).await;
        assert_eq!(error(synced.error_code), Some(ErrorCode::UnknownMemberId));
        let request = HeartbeatRequest::default().with_group_id(text("none").into());
        let beat: HeartbeatResponse = broker.ask(ApiKey::Heartbeat, version.min(4), request).await;
        assert_eq!(error(beat.error_code), Some(ErrorCode::UnknownMemberId));
        let request = offset_commit("none", text("m"), 1, &[(0, 1)]);
        let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, version.max(2), request).await;
        let code = if version >= 9 { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
        assert_eq!(commit_codes(&response), [Some(code)]);
        assert_eq!(committed(&broker, version.max(1), "none").await, (-1, String::new()));
        let request = DescribeGroupsRequest::default().with_groups(vec![text("none").into()]);
        let described: DescribeGroupsResponse = broker.ask(ApiKey::DescribeGroups, version.min(6), request).await;
        assert_eq!(&*described.groups[0].group_state, "Dead");
        let request = DeleteGroupsRequest::default().with_groups_names(vec![text("none").into()]);
        let deleted: DeleteGroupsResponse = broker.ask(ApiKey::DeleteGroups, version.min(2), request).await;
        assert_eq!(error(deleted.results[0].error_code), Some(ErrorCode::GroupIdNotFound));
    }
}

#[tokio::test]
async fn this_broker_coordinates_everything_but_share_groups() {
    let broker = start().await;
    for version in 0..=6 {
        for (key_type, found) in [(0, true), (1, true), (2, false)] {
            if version == 0 && key_type != 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            let request = match version {
                0..4 => request.with_key(text("g")),
                _ => request.with_coordinator_keys(vec![text("g"), text("h")]),
            };
            let answer: FindCoordinatorResponse = broker.ask(ApiKey::FindCoordinator, version, request).await;
            let (code, node) = match answer.coordinators.first() {
                Some(first) => (first.error_code, first.node_id),
                None => (answer.error_code, answer.node_id),
            };
            assert_eq!((error(code).is_none(), node == NODE), (found, found), "version {version} type {key_type}");
        }
    }
}

#[tokio::test]
async fn offsets_are_read_in_all_ways() {
    let broker = start().await;
    let request = offset_commit("simple", StrBytes::new(), -1, &[(0, 5), (1, 6)]);
    let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, 9, request).await;
    assert_eq!(commit_codes(&response), [None, None]);
    for version in 2..8 {
        let request = OffsetFetchRequest::default().with_group_id(text("simple").into()).with_topics(None);
        let response: OffsetFetchResponse = broker.ask(ApiKey::OffsetFetch, version, request).await;
        assert_eq!((response.topics.len(), response.topics[0].partitions.len()), (1, 2));
    }
    for version in 8..=9 {
        let all = |group| OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(None);
        let request =
            OffsetFetchRequest::default().with_groups(vec![all("simple"), all("none")]).with_require_stable(true);
        let response: OffsetFetchResponse = broker.ask(ApiKey::OffsetFetch, version, request).await;
        let counts: Vec<_> = response.groups.iter().map(|group| (group.error_code, group.topics.len())).collect();
        assert_eq!(counts, [(0, 1), (0, 0)]);
    }
    let long = StrBytes::from_string("x".repeat(4097));
    let mut request = offset_commit("simple", StrBytes::new(), -1, &[(0, 9), (1, 9)]);
    request.topics[0].partitions[0].committed_metadata = Some(long);
    let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, 9, request).await;
    assert_eq!(commit_codes(&response), [Some(ErrorCode::OffsetMetadataTooLarge), None]);

    let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let asked =
        OffsetDeleteRequestTopic::default().with_name(topic("t")).with_partitions(vec![partition(0), partition(9)]);
    let request = OffsetDeleteRequest::default().with_group_id(text("simple").into()).with_topics(vec![asked]);
    let response: OffsetDeleteResponse = broker.ask(ApiKey::OffsetDelete, 0, request.clone()).await;
    let codes: Vec<_> = response.topics[0].partitions.iter().map(|p| error(p.error_code)).collect();
    assert_eq!((response.error_code, codes), (0, vec![None, Some(ErrorCode::UnknownTopicOrPartition)]));
    assert_eq!(committed(&broker, 9, "simple").await.0, -1);
    let response: OffsetDeleteResponse =
        broker.ask(ApiKey::OffsetDelete, 0, request.with_group_id(text("none").into())).await;
    assert_eq!(error(response.error_code), Some(ErrorCode::GroupIdNotFound));
}

fn beat(id: &'static str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let beat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text("k").into())
        .with_member_id(text(id))
        .with_member_epoch(epoch);
    match epoch {
        0 => beat
            .with_rebalance_timeout_ms(30_000)
            .with_subscribed_topic_names(Some(vec![topic("t")]))
            .with_topic_partitions(Some(vec![])),
        _ => beat,
    }
}

/// Epoch and assigned partitions per topic, if there are news.
async fn heartbeat(
    broker: &TestBroker,
    version: i16,
    request: ConsumerGroupHeartbeatRequest,
) -> (i32, Option<Vec<usize>>) {
    let answer: ConsumerGroupHeartbeatResponse = broker.ask(ApiKey::ConsumerGroupHeartbeat, version, request).await;
    assert_eq!(error(answer.error_code), None, "{answer:?}");
    let counts = |assignment: consumer_group_heartbeat_response::Assignment| {
        assignment.topic_partitions.iter().map(|topic| topic.partitions.len()).collect()
    };
    (answer.member_epoch, answer.assignment.map(counts))
}

#[tokio::test]
async fn a_consumer_of_the_new_protocol_lives_at_every_version() {
    let broker = start().await;
    assert_eq!(heartbeat(&broker, 0, beat("a", 0)).await, (1, Some(vec![2])));
    assert_eq!(heartbeat(&broker, 1, beat("a", 1)).await, (1, None));
    for version in 0..=1 {
        let request = ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![text("k").into(), text("none").into()])
            .with_include_authorized_operations(true);
        let described: ConsumerGroupDescribeResponse =
            broker.ask(ApiKey::ConsumerGroupDescribe, version, request).await;
        let group = &described.groups[0];
        assert_eq!((&*group.group_state, group.group_epoch, group.authorized_operations), ("Stable", 1, 3400));
        assert_eq!(*group.members[0].assignment.topic_partitions[0].topic_name, text("t"));
        assert_eq!(group.members[0].member_type, if version >= 1 { 1 } else { -1 });
        assert_eq!(error(described.groups[1].error_code), Some(ErrorCode::GroupIdNotFound));
    }
    let bad = beat("b", 0).with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("(")));
    let answer: ConsumerGroupHeartbeatResponse = broker.ask(ApiKey::ConsumerGroupHeartbeat, 1, bad).await;
    assert_eq!(error(answer.error_code), Some(ErrorCode::InvalidRegularExpression));
    let gone: ConsumerGroupHeartbeatResponse = broker.ask(ApiKey::ConsumerGroupHeartbeat, 1, beat("a", 7)).await;
    assert_eq!(error(gone.error_code), Some(ErrorCode::FencedMemberEpoch));
}

#[tokio::test]
async fn groups_follow_topics_and_configs() {
    let broker = start().await;
    let regex = beat("a", 0).with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("t.*")));
    assert_eq!(heartbeat(&broker, 1, regex).await, (1, Some(vec![2])));
    create(&broker, "t2", 3).await;
    let (epoch, assigned) = heartbeat(&broker, 1, beat("a", 1)).await;
    assert_eq!((epoch, assigned.map(|counts| counts.iter().sum::<usize>())), (2, Some(5)));

    let request = offset_commit("k", text("a"), 2, &[(0, 5)]);
    let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, 9, request).await;
    assert_eq!(commit_codes(&response), [None]);
    delete(&broker, "t").await;
    create(&broker, "t", 2).await;
    assert_eq!(committed(&broker, 8, "k").await.0, -1, "another topic of the same name");

    let config =
        AlterableConfig::default().with_name(text("consumer.heartbeat.interval.ms")).with_value(Some(text("7000")));
    let resource =
        AlterConfigsResource::default().with_resource_type(32).with_resource_name(text("k")).with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let altered: IncrementalAlterConfigsResponse = broker.ask(ApiKey::IncrementalAlterConfigs, 1, request).await;
    assert_eq!(error(altered.responses[0].error_code), None);
    let answer: ConsumerGroupHeartbeatResponse = broker.ask(ApiKey::ConsumerGroupHeartbeat, 1, beat("b", 0)).await;
    assert_eq!(answer.heartbeat_interval_ms, 7000);
}

#[tokio::test]
async fn groups_and_offsets_survive_a_restart() {
    let broker = start().await;
    let (id, generation) = member(&broker, 9).await;
    let request = offset_commit("g", id.clone(), generation, &[(0, 42)]);
    let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, 9, request).await;
    assert_eq!(commit_codes(&response), [None]);
    assert_eq!(heartbeat(&broker, 1, beat("a", 0)).await.0, 1);

    let broker = broker.restart().await;
    assert_eq!(committed(&broker, 9, "g").await, (42, "note".to_owned()));
    let request =
        HeartbeatRequest::default().with_group_id(text("g").into()).with_member_id(id).with_generation_id(generation);
    let beats: HeartbeatResponse = broker.ask(ApiKey::Heartbeat, 4, request).await;
    assert_eq!(error(beats.error_code), None);
    assert_eq!(heartbeat(&broker, 1, beat("a", 1)).await, (1, None));
    assert_eq!(heartbeat(&broker, 1, beat("a", -1)).await.0, -1);
    let request = DeleteGroupsRequest::default().with_groups_names(vec![text("k").into(), text("g").into()]);
    let deleted: DeleteGroupsResponse = broker.ask(ApiKey::DeleteGroups, 2, request).await;
    let codes: Vec<_> = deleted.results.iter().map(|result| error(result.error_code)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::NonEmptyGroup)]);
    let broker = broker.restart().await;
    let listed: ListGroupsResponse = broker.ask(ApiKey::ListGroups, 5, ListGroupsRequest::default()).await;
    assert_eq!(listed.groups.iter().map(|group| group.group_id.to_string()).collect::<Vec<_>>(), ["g"]);
}

#[tokio::test]
async fn the_new_protocol_can_be_switched_off() {
    let broker = TestBroker::with(&[("group.coordinator.rebalance.protocols", "classic")]).await;
    let answer: ConsumerGroupHeartbeatResponse = broker.ask(ApiKey::ConsumerGroupHeartbeat, 1, beat("a", 0)).await;
    assert_eq!(error(answer.error_code), Some(ErrorCode::UnsupportedVersion));
}

#[tokio::test]
async fn from_version_10_on_offsets_have_topic_ids() {
    use krocket_protocol::offset_commit::{OffsetCommitRequest, OffsetCommitTopic};
    use krocket_protocol::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic};

    let broker = start().await;
    let id = broker.broker.topics.get("t").expect("a topic").id;
    let nobody = uuid::Uuid::from_u128(1);
    let partitions = |indexes: &[i32]| {
        let partition =
            |index: &i32| OffsetCommitRequestPartition::default().with_partition_index(*index).with_committed_offset(5);
        indexes.iter().map(partition).collect()
    };
    let topics = [(id, &[0, 7][..]), (nobody, &[0])];
    let topics = topics.map(|(topic_id, indexes)| OffsetCommitTopic {
        topic_id,
        partitions: partitions(indexes),
        ..OffsetCommitTopic::default()
    });
    let request = OffsetCommitRequest {
        group_id: text("by-id").into(),
        generation_id_or_member_epoch: -1,
        topics: topics.to_vec(),
        ..OffsetCommitRequest::default()
    };
    let response: OffsetCommitResponse = broker.ask(ApiKey::OffsetCommit, 10, request).await;
    let unknown = Some(ErrorCode::UnknownTopicId);
    assert_eq!(commit_codes(&response), [None, Some(ErrorCode::UnknownTopicOrPartition), unknown]);
    assert_eq!(response.topics.iter().map(|topic| topic.topic_id).collect::<Vec<_>>(), [id, nobody]);

    let asked = |topic_id| OffsetFetchTopic { topic_id, partition_indexes: vec![0], ..OffsetFetchTopic::default() };
    let some = OffsetFetchGroup {
        group_id: text("by-id").into(),
        topics: Some(vec![asked(nobody), asked(id)]),
        ..OffsetFetchGroup::default()
    };
    let all = OffsetFetchGroup { topics: None, ..some.clone() };
    let request = OffsetFetchRequest { groups: vec![some, all], require_stable: true };
    let response: OffsetFetchResponse = broker.ask(ApiKey::OffsetFetch, 10, request).await;
    let told = |at: usize| {
        let topics = response.groups[at].topics.iter();
        let told = topics.map(|topic| {
            let partition = &topic.partitions[0];
            (topic.topic_id, error(partition.error_code), partition.committed_offset)
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(0), [(id, None, 5), (nobody, unknown, -1)]);
    assert_eq!(told(1), [(id, None, 5)]);
}
