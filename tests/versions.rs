//! Every API answers at every version that ApiVersions promises, with an answer that the version can carry.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::{self, *};
use kafka_protocol::protocol::{Request, StrBytes};
use krocket_protocol::api;
use krocket_protocol::describe_share_group_offsets::DescribeShareGroupOffsetsRequest;
use krocket_protocol::list_offsets::ListOffsetsRequest;
use krocket_protocol::offset_commit::{OffsetCommitRequest, OffsetCommitTopic};
use krocket_protocol::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic};
use krocket_protocol::records::builder::{BatchBuilder, LastOffset};
use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest;
use krocket_protocol::share_fetch::ShareFetchRequest;
use krocket_protocol::streams_group_describe::StreamsGroupDescribeRequest;
use krocket_protocol::streams_group_heartbeat::{StreamsGroupHeartbeatRequest, Subtopology, Topology};
use krocket_testkit::Krocket;
use krocket_testkit::session::Session;
use uuid::Uuid;

const TOPIC: &str = "every-version";
const GROUP: &str = "every-version-group";

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(0, 1_700_000_000_000);
    builder.push(0, 1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
    builder.finish(LastOffset::Keep).expect("no codec").expect("one record")
}

/// Asks one API after the other and collects what broke instead of stopping at the first.
struct Asker {
    address: SocketAddr,
    asked: BTreeSet<i16>,
    broken: Vec<String>,
}

impl Asker {
    async fn every<R: Request>(&mut self, request: impl Fn(i16) -> R) {
        let api = api::TABLE.iter().find(|api| api.key as i16 == R::KEY).expect("an API of the table");
        self.asked.insert(R::KEY);
        for version in api.min..=api.max {
            let mut session = Session::connect(self.address).await.expect("krocket listens");
            if let Err(error) = session.call(version, &request(version)).await {
                self.broken.push(format!("{:?} version {version}: {error}", api.key));
            }
        }
    }
}

#[tokio::test]
async fn every_api_answers_at_every_version() {
    let krocket = Krocket::start().await;
    let mut client = krocket.client().await;
    let created = create_topics_request::CreatableTopic::default().with_name(topic()).with_num_partitions(1);
    let created =
        CreateTopicsRequest::default().with_topics(vec![created.with_replication_factor(1)]).with_timeout_ms(5000);
    let id: Uuid = client.call(7, &created).await.topics[0].topic_id;
    let mut asker = Asker { address: krocket.kafka, asked: BTreeSet::new(), broken: Vec::new() };
    data(&mut asker, id).await;
    topics(&mut asker).await;
    cluster(&mut asker).await;
    groups(&mut asker, id).await;
    share_groups(&mut asker, id).await;
    transactions(&mut asker).await;
    assert_eq!(asker.broken, Vec::<String>::new());
    let table: BTreeSet<i16> = api::TABLE.iter().map(|api| api.key as i16).collect();
    assert_eq!(asker.asked, table, "an API of the table is not asked here");
    krocket.stop().await;
}

async fn data(asker: &mut Asker, id: Uuid) {
    asker
        .every(|version| {
            let data = produce_request::PartitionProduceData::default().with_records(Some(batch()));
            let data = produce_request::TopicProduceData::default().with_partition_data(vec![data]);
            let data = if version >= 13 { data.with_topic_id(id) } else { data.with_name(topic()) };
            ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data])
        })
        .await;
    asker
        .every(|version| {
            let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
            let wanted = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
            let wanted = if version >= 13 { wanted.with_topic_id(id) } else { wanted.with_topic(topic()) };
            let request = FetchRequest::default().with_min_bytes(1).with_max_bytes(1 << 20).with_topics(vec![wanted]);
            request.with_isolation_level(1).with_max_wait_ms(10)
        })
        .await;
    asker
        .every(|_| {
            let asked = [-1, -2, 1_700_000_000_000]
                .map(|timestamp| list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp));
            let asked =
                list_offsets_request::ListOffsetsTopic::default().with_name(topic()).with_partitions(asked.to_vec());
            ListOffsetsRequest(messages::ListOffsetsRequest::default().with_topics(vec![asked]))
        })
        .await;
    asker
        .every(|_| {
            let asked = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let asked = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(topic())
                .with_partitions(vec![asked]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![asked])
        })
        .await;
    asker.every(|_| InitProducerIdRequest::default().with_transaction_timeout_ms(60_000)).await;
    asker
        .every(|_| {
            let asked =
                describe_producers_request::TopicRequest::default().with_name(topic()).with_partition_indexes(vec![0]);
            DescribeProducersRequest::default().with_topics(vec![asked])
        })
        .await;
    asker
        .every(|_| {
            let asked = delete_records_request::DeleteRecordsPartition::default().with_offset(0);
            let asked =
                delete_records_request::DeleteRecordsTopic::default().with_name(topic()).with_partitions(vec![asked]);
            DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(5000)
        })
        .await;
}

async fn topics(asker: &mut Asker) {
    asker
        .every(|version| {
            let named = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
            let request = MetadataRequest::default();
            if version == 0 { request.with_topics(Some(vec![])) } else { request.with_topics(Some(vec![named])) }
        })
        .await;
    asker
        .every(|_| {
            let asked = describe_topic_partitions_request::TopicRequest::default().with_name(topic());
            DescribeTopicPartitionsRequest::default().with_topics(vec![asked]).with_response_partition_limit(10)
        })
        .await;
    asker
        .every(|_| {
            let made = create_topics_request::CreatableTopic::default().with_name(topic()).with_num_partitions(1);
            CreateTopicsRequest::default().with_topics(vec![made.with_replication_factor(1)]).with_timeout_ms(5000)
        })
        .await;
    asker
        .every(|_| {
            let more = create_partitions_request::CreatePartitionsTopic::default().with_name(topic()).with_count(1);
            CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(5000)
        })
        .await;
    asker
        .every(|version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(5000);
            let unknown = TopicName(text("no-such-topic"));
            if version >= 6 {
                let by_name = delete_topics_request::DeleteTopicState::default().with_name(Some(unknown));
                let by_id = delete_topics_request::DeleteTopicState::default()
                    .with_name(None)
                    .with_topic_id(Uuid::from_u128(9));
                request.with_topics(vec![by_name, by_id])
            } else {
                request.with_topic_names(vec![unknown])
            }
        })
        .await;
    for resource in [2i8, 4, 32] {
        asker
            .every(move |_| {
                let name = text(match resource {
                    2 => TOPIC,
                    4 => "1",
                    _ => GROUP,
                });
                let asked = describe_configs_request::DescribeConfigsResource::default()
                    .with_resource_type(resource)
                    .with_resource_name(name)
                    .with_configuration_keys(None);
                DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true)
            })
            .await;
    }
    asker
        .every(|_| {
            let config = alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("60000")));
            let asked = alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(TOPIC))
                .with_configs(vec![config]);
            AlterConfigsRequest::default().with_resources(vec![asked]).with_validate_only(true)
        })
        .await;
    asker
        .every(|_| {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("60000")));
            let asked = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(TOPIC))
                .with_configs(vec![config]);
            IncrementalAlterConfigsRequest::default().with_resources(vec![asked]).with_validate_only(true)
        })
        .await;
}

async fn cluster(asker: &mut Asker) {
    asker
        .every(|version| {
            let request = ApiVersionsRequest::default();
            if version < 3 {
                return request;
            }
            request.with_client_software_name(text("testkit")).with_client_software_version(text("1"))
        })
        .await;
    asker.every(|_| DescribeClusterRequest::default()).await;
    asker.every(|_| DescribeQuorumRequest::default()).await;
    asker.every(|_| DescribeLogDirsRequest::default().with_topics(None)).await;
    asker.every(|_| ElectLeadersRequest::default().with_topic_partitions(None).with_timeout_ms(5000)).await;
    asker
        .every(|_| {
            let asked = alter_partition_reassignments_request::ReassignablePartition::default().with_replicas(None);
            let asked = alter_partition_reassignments_request::ReassignableTopic::default()
                .with_name(topic())
                .with_partitions(vec![asked]);
            AlterPartitionReassignmentsRequest::default().with_topics(vec![asked]).with_timeout_ms(5000)
        })
        .await;
    asker.every(|_| ListPartitionReassignmentsRequest::default().with_topics(None).with_timeout_ms(5000)).await;
    asker.every(|_| ListConfigResourcesRequest::default()).await;
    asker.every(|_| DescribeAclsRequest::default()).await;
    // Without SASL on the listener these are answered with ILLEGAL_SASL_STATE.
    asker.every(|_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))).await;
    asker.every(|_| SaslAuthenticateRequest::default()).await;
    asker.every(|_| DescribeUserScramCredentialsRequest::default().with_users(None)).await;
    asker.every(|_| AlterUserScramCredentialsRequest::default()).await;
    asker.every(|_| CreateAclsRequest::default().with_creations(vec![Default::default()])).await;
    asker.every(|_| DeleteAclsRequest::default().with_filters(vec![Default::default()])).await;
    asker.every(|_| DescribeClientQuotasRequest::default()).await;
    asker.every(|_| AlterClientQuotasRequest::default().with_entries(vec![Default::default()])).await;
}

async fn transactions(asker: &mut Asker) {
    let id = || TransactionalId(text("every-version-txn"));
    asker
        .every(|version| {
            let topics = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                .with_name(topic())
                .with_partitions(vec![0]);
            let request = AddPartitionsToTxnRequest::default();
            if version < 4 {
                return request.with_v3_and_below_transactional_id(id()).with_v3_and_below_topics(vec![topics]);
            }
            let asked = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
                .with_transactional_id(id())
                .with_topics(vec![topics]);
            request.with_transactions(vec![asked])
        })
        .await;
    asker.every(|_| AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(group())).await;
    asker.every(|_| EndTxnRequest::default().with_transactional_id(id())).await;
    asker
        .every(|_| {
            let marked = write_txn_markers_request::WritableTxnMarkerTopic::default()
                .with_name(topic())
                .with_partition_indexes(vec![0, 1]);
            let marker = write_txn_markers_request::WritableTxnMarker::default().with_topics(vec![marked]);
            WriteTxnMarkersRequest::default().with_markers(vec![marker])
        })
        .await;
    asker
        .every(|_| {
            let committed = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()]);
            TxnOffsetCommitRequest::default()
                .with_transactional_id(id())
                .with_group_id(group())
                .with_topics(vec![committed])
        })
        .await;
    asker.every(|_| DescribeTransactionsRequest::default().with_transactional_ids(vec![id()])).await;
    asker
        .every(|version| {
            let request = ListTransactionsRequest::default().with_state_filters(vec![text("Ongoing"), text("Odd")]);
            if version >= 2 { request.with_transactional_id_pattern(Some(text("every.*"))) } else { request }
        })
        .await;
}

async fn share_groups(asker: &mut Asker, id: Uuid) {
    let sharers = || GroupId(text("sharers"));
    asker
        .every(|_| {
            ShareGroupHeartbeatRequest::default()
                .with_group_id(sharers())
                .with_member_id(text("member-of-my-own"))
                .with_member_epoch(0)
                .with_subscribed_topic_names(Some(vec![topic()]))
        })
        .await;
    asker
        .every(|_| {
            let partition = share_fetch_request::FetchPartition::default();
            let asked = share_fetch_request::FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
            ShareFetchRequest {
                group_id: Some(text("sharers")),
                member_id: Some(text("member-of-my-own")),
                max_records: 10,
                max_bytes: 1 << 20,
                topics: vec![asked],
                ..ShareFetchRequest::default()
            }
        })
        .await;
    asker
        .every(|version| ShareAcknowledgeRequest {
            group_id: Some(text("sharers")),
            member_id: Some(text("member-of-my-own")),
            share_session_epoch: i32::from(version),
            ..ShareAcknowledgeRequest::default()
        })
        .await;
    asker.every(|_| ShareGroupDescribeRequest::default().with_group_ids(vec![sharers(), group()])).await;
    asker
        .every(|_| {
            let named = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic())
                .with_partitions(vec![0, 1]);
            let asked = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default();
            let some = asked.clone().with_group_id(sharers()).with_topics(Some(vec![named]));
            let all = asked.with_group_id(group()).with_topics(None);
            DescribeShareGroupOffsetsRequest(
                kafka_protocol::messages::DescribeShareGroupOffsetsRequest::default().with_groups(vec![some, all]),
            )
        })
        .await;
    asker
        .every(|_| {
            let start = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition::default();
            let altered = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic())
                .with_partitions(vec![start.clone(), start.with_partition_index(1)]);
            AlterShareGroupOffsetsRequest::default()
                .with_group_id(GroupId(text("nobody-shares")))
                .with_topics(vec![altered])
        })
        .await;
    asker
        .every(|_| {
            let deleted = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic());
            DeleteShareGroupOffsetsRequest::default()
                .with_group_id(GroupId(text("nobody-shares")))
                .with_topics(vec![deleted])
        })
        .await;
}

async fn groups(asker: &mut Asker, id: Uuid) {
    asker
        .every(|version| {
            let request = FindCoordinatorRequest::default();
            if version >= 4 { request.with_coordinator_keys(vec![text(GROUP)]) } else { request.with_key(text(GROUP)) }
        })
        .await;
    asker
        .every(|_| {
            let committed = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(1);
            let partitions = vec![committed.with_committed_metadata(Some(text("note")))];
            OffsetCommitRequest {
                group_id: group(),
                generation_id_or_member_epoch: -1,
                retention_time_ms: -1,
                topics: vec![OffsetCommitTopic { name: topic(), topic_id: id, partitions }],
                ..OffsetCommitRequest::default()
            }
        })
        .await;
    asker
        .every(|version| {
            let asked = OffsetFetchTopic { name: topic(), topic_id: id, partition_indexes: vec![0] };
            let some = OffsetFetchGroup { group_id: group(), topics: Some(vec![asked]), ..OffsetFetchGroup::default() };
            let all = OffsetFetchGroup { topics: None, ..some.clone() };
            let groups = if version >= 8 { vec![some, all] } else { vec![some] };
            OffsetFetchRequest { groups, require_stable: false }
        })
        .await;
    asker
        .every(|_| {
            let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
            JoinGroupRequest::default()
                .with_group_id(GroupId(text("joiners")))
                .with_session_timeout_ms(6000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol])
        })
        .await;
    let stranger = || text("nobody");
    asker.every(|_| HeartbeatRequest::default().with_group_id(group()).with_member_id(stranger())).await;
    asker
        .every(|version| {
            let request = LeaveGroupRequest::default().with_group_id(group());
            if version >= 3 {
                let member = leave_group_request::MemberIdentity::default().with_member_id(stranger());
                request.with_members(vec![member])
            } else {
                request.with_member_id(stranger())
            }
        })
        .await;
    asker.every(|_| SyncGroupRequest::default().with_group_id(group()).with_member_id(stranger())).await;
    asker.every(|_| DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("no-such-group"))])).await;
    asker.every(|_| ListGroupsRequest::default()).await;
    asker
        .every(|_| {
            ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("modern")))
                .with_member_id(text("member-of-my-own"))
                .with_member_epoch(0)
                .with_rebalance_timeout_ms(30_000)
                .with_subscribed_topic_names(Some(vec![topic()]))
                .with_topic_partitions(Some(vec![]))
        })
        .await;
    asker
        .every(|_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("modern")), group()]))
        .await;
    asker
        .every(|_| {
            let part =
                Subtopology { subtopology_id: text("0"), source_topics: vec![text(TOPIC)], ..Subtopology::default() };
            StreamsGroupHeartbeatRequest {
                group_id: text("streamers"),
                member_id: text("member-of-my-own"),
                rebalance_timeout_ms: 30_000,
                process_id: Some(text("process")),
                topology: Some(Topology { epoch: 0, subtopologies: vec![part] }),
                ..StreamsGroupHeartbeatRequest::default()
            }
        })
        .await;
    asker
        .every(|_| StreamsGroupDescribeRequest {
            group_ids: vec![text("streamers"), text(GROUP)],
            include_authorized_operations: true,
        })
        .await;
    asker
        .every(|_| {
            let asked = offset_delete_request::OffsetDeleteRequestPartition::default();
            let asked = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![asked]);
            OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![asked])
        })
        .await;
    asker.every(|_| DeleteGroupsRequest::default().with_groups_names(vec![group()])).await;
}
