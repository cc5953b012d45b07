use std::collections::BTreeSet;

use kafka_protocol::messages::*;
use krocket_protocol::describe_share_group_offsets::DescribeShareGroupOffsetsRequest as SharedOffsets;
use krocket_protocol::list_offsets::ListOffsetsRequest as ListOffsets;
use krocket_protocol::offset_commit::{OffsetCommitRequest as OffsetCommit, OffsetCommitTopic};
use krocket_protocol::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest as OffsetFetch, OffsetFetchTopic};
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest as ShareAcknowledge;
use krocket_protocol::share_fetch::ShareFetchRequest as ShareFetch;
use uuid::Uuid;

use krocket_protocol::ApiKey;

use super::*;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const TXN: &str = "payments";

fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn txn() -> TransactionalId {
    TransactionalId(text(TXN))
}

fn batch() -> bytes::Bytes {
    let mut batch = BatchBuilder::new(0, 1_700_000_000_000);
    batch.push(0, 1_700_000_000_000, None, Some(b"value"), &[]);
    batch.finish(LastOffset::Keep).expect("no codec").expect("one record")
}

/// Walks the table: who has nothing is denied, who has all that is named is not, and each is needed.
struct Walk<'a> {
    world: &'a World,
    asked: BTreeSet<i16>,
    wrong: Vec<String>,
}

impl Walk<'_> {
    async fn needs<R: KafkaRequest>(&mut self, grants: &[&str], request: R)
    where
        R::Response: Debug,
    {
        self.needs_at(None, grants, request).await;
    }

    async fn needs_at<R: KafkaRequest>(&mut self, version: Option<i16>, grants: &[&str], request: R)
    where
        R::Response: Debug,
    {
        let api = ApiKey::try_from(R::KEY).expect("an API");
        let version = version.unwrap_or(api::served(api).expect("served").max);
        self.asked.insert(R::KEY);
        let user = client(USER);
        let mut cases: Vec<(String, Vec<&str>, bool)> = vec![("a stranger".to_owned(), Vec::new(), true)];
        for left_out in 0..grants.len() {
            let mut some = grants.to_vec();
            let missing = some.remove(left_out);
            cases.push((format!("without {missing}"), some, true));
            let denied = format!("!{missing}");
            let mut refused = grants.to_vec();
            refused.push(&denied);
            self.world.grant(&refused);
            let answer = self.world.ask_at(&user, version, &request).await;
            if !is_denied(&answer) {
                self.wrong.push(format!("{api:?} denied {missing}: {answer:?}"));
            }
        }
        // The last, for it may change something.
        cases.push((format!("with {grants:?}"), grants.to_vec(), false));
        for (who, grants, denied) in cases {
            self.world.grant(&grants);
            let answer = self.world.ask_at(&user, version, &request).await;
            if is_denied(&answer) != denied {
                self.wrong.push(format!("{api:?} {who}: {answer:?}"));
            }
        }
    }

    /// The answer has this text with the permissions and not without any of them.
    async fn shows<R: KafkaRequest>(&mut self, shown: &str, grants: &[&str], request: R)
    where
        R::Response: Debug,
    {
        self.asked.insert(R::KEY);
        for grants in [&[][..], grants] {
            self.world.grant(grants);
            let answer = format!("{:?}", self.world.ask(&client(USER), &request).await);
            if answer.contains(shown) == grants.is_empty() {
                self.wrong.push(format!("{shown} with {grants:?}: {answer}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_api_follows_kafkas_rules() {
    let world = World::start().await;
    world.create(TOPIC).await;
    let id = world.broker.topics.get(TOPIC).expect("created").id;
    let mut walk = Walk { world: &world, asked: BTreeSet::new(), wrong: Vec::new() };
    data(&mut walk, id).await;
    topics(&mut walk).await;
    configs(&mut walk).await;
    cluster(&mut walk).await;
    groups(&mut walk, id).await;
    shares(&mut walk, id).await;
    transactions(&mut walk).await;
    assert!(walk.wrong.is_empty(), "{}", walk.wrong.join("\n"));
    let open = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate].map(|api| api as i16);
    // Others' tests ask these.
    let elsewhere = [
        ApiKey::DescribeUserScramCredentials,
        ApiKey::AlterUserScramCredentials,
        ApiKey::DescribeClientQuotas,
        ApiKey::AlterClientQuotas,
        ApiKey::StreamsGroupHeartbeat,
        ApiKey::StreamsGroupDescribe,
    ];
    let missing = api::TABLE.iter().map(|row| row.key).filter(|api| !walk.asked.contains(&(*api as i16)));
    let missing: Vec<_> = missing.filter(|api| !open.contains(&(*api as i16)) && !elsewhere.contains(api)).collect();
    assert!(missing.is_empty(), "{missing:?} have no row here");
}

async fn data(walk: &mut Walk<'_>, id: Uuid) {
    let data = produce_request::PartitionProduceData::default().with_records(Some(batch()));
    let data = produce_request::TopicProduceData::default().with_topic_id(id).with_partition_data(vec![data]);
    let produce = ProduceRequest::default().with_acks(1).with_timeout_ms(5000).with_topic_data(vec![data.clone()]);
    walk.needs(&["Write topic orders"], produce.clone()).await;
    let produce = produce.with_transactional_id(Some(txn()));
    walk.needs(&["Write topic orders", "Write txn payments"], produce).await;

    let asked = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = fetch_request::FetchTopic::default().with_topic_id(id).with_partitions(vec![asked]);
    let fetch = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]);
    walk.needs(&["Read topic orders"], fetch).await;

    let asked = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
    let asked = list_offsets_request::ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![asked]);
    let request = kafka_protocol::messages::ListOffsetsRequest::default().with_topics(vec![asked]);
    walk.needs(&["Describe topic orders"], ListOffsets(request)).await;

    let asked = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
    let asked = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic(name(TOPIC))
        .with_partitions(vec![asked]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]);
    walk.needs(&["Describe topic orders"], request.clone()).await;
    walk.world.grant(&["ClusterAction cluster"]);
    assert!(!is_denied(&walk.world.ask(&client(USER), &request).await));

    let asked =
        describe_producers_request::TopicRequest::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
    walk.needs(&["Read topic orders"], DescribeProducersRequest::default().with_topics(vec![asked])).await;

    let asked = delete_records_request::DeleteRecordsPartition::default().with_offset(0);
    let asked =
        delete_records_request::DeleteRecordsTopic::default().with_name(name(TOPIC)).with_partitions(vec![asked]);
    let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(5000);
    walk.needs(&["Delete topic orders"], request).await;
}

async fn topics(walk: &mut Walk<'_>) {
    let named = metadata_request::MetadataRequestTopic::default().with_name(Some(name(TOPIC)));
    walk.needs(&["Describe topic orders"], MetadataRequest::default().with_topics(Some(vec![named]))).await;
    walk.shows("orders", &["Describe topic orders"], MetadataRequest::default().with_topics(None)).await;
    let new = metadata_request::MetadataRequestTopic::default().with_name(Some(name("new")));
    let new = MetadataRequest::default().with_topics(Some(vec![new]));
    let denied = new.clone().with_allow_auto_topic_creation(true);
    walk.needs(&["Describe topic new", "Create topic new"], denied).await;

    let asked = describe_topic_partitions_request::TopicRequest::default().with_name(name(TOPIC));
    let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(10);
    walk.needs(&["Describe topic orders"], request.clone().with_topics(vec![asked])).await;
    walk.shows("orders", &["Describe topic orders"], request).await;

    let made = |topic| {
        create_topics_request::CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(1)
            .with_replication_factor(1)
    };
    let request = |topic| CreateTopicsRequest::default().with_topics(vec![made(topic)]).with_timeout_ms(5000);
    // To be told the new topic's configs is another permission.
    walk.needs(&["Create topic one", "DescribeConfigs topic one"], request("one").with_validate_only(true)).await;
    walk.world.grant(&["Create cluster"]);
    let answer = walk.world.ask(&client(USER), &request("two")).await;
    assert_eq!((answer.topics[0].error_code, answer.topics[0].topic_config_error_code), (0, 29), "{answer:?}");

    let more = create_partitions_request::CreatePartitionsTopic::default().with_name(name(TOPIC)).with_count(1);
    let request = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(5000);
    walk.needs(&["Alter topic orders"], request).await;

    let state = delete_topics_request::DeleteTopicState::default().with_name(Some(name("gone")));
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(5000);
    walk.needs(&["Delete topic gone"], request).await;
    // Who may not see a topic learns nothing of the one behind an id.
    let id = walk.world.broker.topics.get("two").expect("created").id;
    let state = delete_topics_request::DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(5000);
    for (grants, told) in [(&[][..], None), (&["Describe topic two"], Some(name("two")))] {
        walk.world.grant(grants);
        let answer = walk.world.ask(&client(USER), &request).await;
        assert_eq!((answer.responses[0].error_code, &answer.responses[0].name), (29, &told));
    }
}

async fn configs(walk: &mut Walk<'_>) {
    for (kind, resource, what) in
        [(2, TOPIC, "topic orders"), (32, GROUP, "group billing"), (4, "1", "cluster"), (8, "1", "cluster")]
    {
        let (describe, alter) = (format!("DescribeConfigs {what}"), format!("AlterConfigs {what}"));
        let asked = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configuration_keys(None);
        walk.needs(&[&describe], DescribeConfigsRequest::default().with_resources(vec![asked])).await;
        let asked = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource));
        let request = AlterConfigsRequest::default().with_resources(vec![asked]).with_validate_only(true);
        walk.needs(&[&alter], request).await;
        let asked = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource));
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![asked]).with_validate_only(true);
        walk.needs(&[&alter], request).await;
    }
}

async fn cluster(walk: &mut Walk<'_>) {
    let bits = |bits: i32| format!("cluster_authorized_operations: {bits}");
    let request =
        DescribeClusterRequest::default().with_endpoint_type(1).with_include_cluster_authorized_operations(true);
    walk.shows(&bits(1 << 8), &["Describe cluster"], request.clone()).await;
    walk.shows(&bits(1 << 7 | 1 << 8), &["Alter cluster"], request).await;
    walk.needs(&["Describe cluster"], DescribeLogDirsRequest::default().with_topics(None)).await;
    walk.needs(&["Describe cluster"], DescribeQuorumRequest::default()).await;
    walk.needs(&["Alter cluster"], ElectLeadersRequest::default().with_topic_partitions(None)).await;
    walk.needs(&["Alter cluster"], AlterPartitionReassignmentsRequest::default()).await;
    walk.needs(&["Describe cluster"], ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    walk.needs(&["DescribeConfigs cluster"], ListConfigResourcesRequest::default()).await;
    let filter = |request: DescribeAclsRequest| {
        request.with_resource_type_filter(1).with_pattern_type_filter(1).with_operation(1).with_permission_type(1)
    };
    walk.needs(&["Describe cluster"], filter(DescribeAclsRequest::default())).await;
    walk.needs(&["Alter cluster"], CreateAclsRequest::default().with_creations(vec![Default::default()])).await;
    walk.needs(&["Alter cluster"], DeleteAclsRequest::default().with_filters(vec![Default::default()])).await;
    walk.needs(&["DescribeConfigs cluster"], DescribeClientQuotasRequest::default()).await;
    let quotas = AlterClientQuotasRequest::default().with_entries(vec![Default::default()]);
    walk.needs(&["AlterConfigs cluster"], quotas).await;
}

async fn groups(walk: &mut Walk<'_>, id: Uuid) {
    let keys = |kind, key| FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
    walk.needs(&["Describe group billing"], keys(0, GROUP)).await;
    walk.needs(&["Describe txn payments"], keys(1, TXN)).await;
    walk.needs(&["ClusterAction cluster"], keys(2, "billing:AAAAAAAAAAAAAAAAAAAAAA:0")).await;

    let committed = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(1);
    let partitions = vec![committed];
    let commit = OffsetCommit {
        group_id: group(),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![OffsetCommitTopic { name: name(TOPIC), topic_id: id, partitions }],
        ..OffsetCommit::default()
    };
    walk.needs(&["Read group billing", "Read topic orders"], commit).await;
    let asked = OffsetFetchTopic { name: name(TOPIC), topic_id: id, partition_indexes: vec![0] };
    let some = OffsetFetchGroup { group_id: group(), topics: Some(vec![asked]), ..OffsetFetchGroup::default() };
    let all = OffsetFetchGroup { topics: None, ..some.clone() };
    let request = OffsetFetch { groups: vec![some], require_stable: false };
    walk.needs(&["Describe group billing", "Describe topic orders"], request).await;
    let request = OffsetFetch { groups: vec![all], require_stable: false };
    let offset = "committed_offset: 1";
    walk.shows(offset, &["Describe group billing", "Describe topic orders"], request.clone()).await;
    walk.world.grant(&["Describe group billing"]);
    assert!(!format!("{:?}", walk.world.ask(&client(USER), &request).await).contains(offset));

    walk.shows(GROUP, &["Describe group billing"], ListGroupsRequest::default()).await;
    walk.shows(GROUP, &["Describe cluster"], ListGroupsRequest::default()).await;
    let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
    walk.needs(&["Describe group billing"], request.clone()).await;
    let bits = format!("authorized_operations: {}", 1 << 3 | 1 << 8);
    walk.shows(&bits, &["Read group billing"], request.with_include_authorized_operations(true)).await;
    let read = &["Read group billing"];
    let member = || text("nobody");
    walk.needs(read, HeartbeatRequest::default().with_group_id(group()).with_member_id(member())).await;
    let leaves = leave_group_request::MemberIdentity::default().with_member_id(member());
    walk.needs(read, LeaveGroupRequest::default().with_group_id(group()).with_members(vec![leaves])).await;
    walk.needs(read, SyncGroupRequest::default().with_group_id(group()).with_member_id(member())).await;
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(6000)
        .with_protocol_type(text("other"))
        .with_protocols(vec![protocol]);
    walk.needs(read, join).await;
    let heartbeat = |group: &'static str| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(text("member-of-my-own"))
            .with_rebalance_timeout_ms(30_000)
            .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
            .with_topic_partitions(Some(vec![]))
    };
    walk.needs(&["Read group modern", "Describe topic orders"], heartbeat("modern")).await;
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("modern"))]);
    walk.needs(&["Describe group modern", "Describe topic orders"], request).await;
    let asked = offset_delete_request::OffsetDeleteRequestPartition::default();
    let asked =
        offset_delete_request::OffsetDeleteRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![asked]);
    let request = OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![asked]);
    walk.needs(&["Delete group billing", "Read topic orders"], request).await;
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    walk.needs(&["Delete group billing"], request).await;
}

async fn shares(walk: &mut Walk<'_>, id: Uuid) {
    let sharers = || GroupId(text("sharers"));
    let request = ShareGroupHeartbeatRequest::default()
        .with_group_id(sharers())
        .with_member_id(text("member-of-my-own"))
        .with_subscribed_topic_names(Some(vec![name(TOPIC)]));
    walk.needs(&["Read group sharers", "Describe topic orders"], request).await;
    let request = ShareGroupDescribeRequest::default().with_group_ids(vec![sharers()]);
    walk.needs(&["Describe group sharers", "Describe topic orders"], request).await;
    let asked = share_fetch_request::FetchTopic::default()
        .with_topic_id(id)
        .with_partitions(vec![share_fetch_request::FetchPartition::default()]);
    let request = ShareFetch {
        group_id: Some(text("sharers")),
        member_id: Some(text("member-of-my-own")),
        max_records: 10,
        max_bytes: 1 << 20,
        topics: vec![asked],
        ..ShareFetch::default()
    };
    walk.needs(&["Read group sharers", "Read topic orders"], request).await;
    let asked = share_acknowledge_request::AcknowledgePartition::default();
    let asked = share_acknowledge_request::AcknowledgeTopic::default().with_topic_id(id).with_partitions(vec![asked]);
    let request = ShareAcknowledge {
        group_id: Some(text("sharers")),
        member_id: Some(text("member-of-my-own")),
        share_session_epoch: -1,
        topics: vec![asked],
        ..ShareAcknowledge::default()
    };
    walk.needs(&["Read group sharers", "Read topic orders"], request).await;
    let named = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestTopic::default()
        .with_topic_name(name(TOPIC))
        .with_partitions(vec![0]);
    let asked = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(sharers())
        .with_topics(Some(vec![named]));
    let request = SharedOffsets(DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]));
    walk.needs(&["Describe group sharers", "Describe topic orders"], request).await;
    let start = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition::default();
    let altered = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(name(TOPIC))
        .with_partitions(vec![start]);
    let request = AlterShareGroupOffsetsRequest::default().with_group_id(sharers()).with_topics(vec![altered]);
    walk.needs(&["Read group sharers", "Read topic orders"], request).await;
    let deleted =
        delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name(TOPIC));
    let request = DeleteShareGroupOffsetsRequest::default().with_group_id(sharers()).with_topics(vec![deleted]);
    walk.needs(&["Delete group sharers", "Read topic orders"], request).await;
}

async fn transactions(walk: &mut Walk<'_>) {
    let init = InitProducerIdRequest::default().with_transaction_timeout_ms(60_000);
    walk.needs(&["IdempotentWrite cluster"], init.clone().with_transactional_id(None)).await;
    walk.needs(&["Write topic any.."], init.clone().with_transactional_id(None)).await;
    walk.needs(&["Write txn payments"], init.with_transactional_id(Some(txn()))).await;
    let added = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(name(TOPIC))
        .with_partitions(vec![0]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(txn())
        .with_v3_and_below_topics(vec![added.clone()]);
    walk.needs_at(Some(3), &["Write txn payments", "Write topic orders"], request).await;
    let asked = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
        .with_transactional_id(txn())
        .with_topics(vec![added]);
    let request = AddPartitionsToTxnRequest::default().with_transactions(vec![asked]);
    walk.needs(&["ClusterAction cluster"], request).await;
    let request = AddOffsetsToTxnRequest::default().with_transactional_id(txn()).with_group_id(group());
    walk.needs(&["Write txn payments", "Read group billing"], request).await;
    let committed = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(name(TOPIC))
        .with_partitions(vec![txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(txn())
        .with_group_id(group())
        .with_topics(vec![committed]);
    walk.needs(&["Write txn payments", "Read group billing", "Read topic orders"], request).await;
    walk.needs(&["Write txn payments"], EndTxnRequest::default().with_transactional_id(txn())).await;
    let marked = write_txn_markers_request::WritableTxnMarkerTopic::default()
        .with_name(name(TOPIC))
        .with_partition_indexes(vec![0]);
    let marker = write_txn_markers_request::WritableTxnMarker::default().with_topics(vec![marked]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    walk.needs(&["ClusterAction cluster"], request).await;
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![txn()]);
    walk.needs(&["Describe txn payments"], request).await;
    walk.shows(TXN, &["Describe txn payments"], ListTransactionsRequest::default()).await;
}
