//! From an API key to the file of that name.

use std::future::Future;

use kafka_protocol::protocol::Decodable;
use krocket_protocol::ApiKey;
use krocket_stack::trace::traced;
use krocket_stack::{BoxFuture, Error, Handler, Head, Message, Request, Response};

use crate::{Broker, api};

impl Handler for Broker {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        let work = async move {
            match request.head.api {
                ApiKey::Produce => api::produce::handle(self, request).await,
                ApiKey::Fetch => api::fetch::handle(self, request).await,
                ApiKey::ListOffsets => answer(request, |head, m| api::list_offsets::handle(self, head, m)).await,
                ApiKey::DeleteRecords => answer(request, |head, m| api::delete_records::handle(self, head, m)).await,
                ApiKey::InitProducerId => answer(request, |head, m| api::init_producer_id::handle(self, head, m)).await,
                ApiKey::OffsetForLeaderEpoch => {
                    answer(request, |head, m| api::offset_for_leader_epoch::handle(self, head, m)).await
                }
                ApiKey::DescribeProducers => {
                    answer(request, |head, m| api::describe_producers::handle(self, head, m)).await
                }
                ApiKey::Metadata => answer(request, |h, m| api::metadata::handle(self, h, m)).await,
                ApiKey::CreateTopics => answer(request, |h, m| api::create_topics::handle(self, h, m)).await,
                ApiKey::DeleteTopics => answer(request, |h, m| api::delete_topics::handle(self, h, m)).await,
                ApiKey::DescribeConfigs => answer(request, |h, m| api::describe_configs::handle(self, h, m)).await,
                ApiKey::AlterConfigs => answer(request, |h, m| api::alter_configs::handle(self, h, m)).await,
                ApiKey::DescribeLogDirs => answer(request, |h, m| api::describe_log_dirs::handle(self, h, m)).await,
                ApiKey::CreatePartitions => answer(request, |h, m| api::create_partitions::handle(self, h, m)).await,
                ApiKey::ElectLeaders => answer(request, |h, m| api::elect_leaders::handle(self, h, m)).await,
                ApiKey::IncrementalAlterConfigs => {
                    answer(request, |h, m| api::incremental_alter_configs::handle(self, h, m)).await
                }
                ApiKey::AlterPartitionReassignments => {
                    answer(request, |h, m| api::alter_partition_reassignments::handle(self, h, m)).await
                }
                ApiKey::ListPartitionReassignments => {
                    answer(request, |h, m| api::list_partition_reassignments::handle(self, h, m)).await
                }
                ApiKey::DescribeQuorum => answer(request, |h, m| api::describe_quorum::handle(self, h, m)).await,
                ApiKey::DescribeCluster => answer(request, |h, m| api::describe_cluster::handle(self, h, m)).await,
                ApiKey::DescribeAcls => answer(request, |h, m| api::describe_acls::handle(self, h, m)).await,
                ApiKey::CreateAcls => answer(request, |h, m| api::create_acls::handle(self, h, m)).await,
                ApiKey::DeleteAcls => answer(request, |h, m| api::delete_acls::handle(self, h, m)).await,
                ApiKey::ListConfigResources => {
                    answer(request, |h, m| api::list_config_resources::handle(self, h, m)).await
                }
                ApiKey::DescribeTopicPartitions => {
                    let (head, message) = request.into_message()?;
                    api::describe_topic_partitions::handle(self, head, message).await.map(Response::new)
                }
                ApiKey::FindCoordinator => answer(request, |h, m| api::find_coordinator::handle(self, h, m)).await,
                ApiKey::JoinGroup => answer(request, |h, m| api::join_group::handle(self, h, m)).await,
                ApiKey::SyncGroup => answer(request, |h, m| api::sync_group::handle(self, h, m)).await,
                ApiKey::Heartbeat => answer(request, |h, m| api::heartbeat::handle(self, h, m)).await,
                ApiKey::LeaveGroup => answer(request, |h, m| api::leave_group::handle(self, h, m)).await,
                ApiKey::OffsetCommit => answer(request, |h, m| api::offset_commit::handle(self, h, m)).await,
                ApiKey::OffsetFetch => answer(request, |h, m| api::offset_fetch::handle(self, h, m)).await,
                ApiKey::OffsetDelete => answer(request, |h, m| api::offset_delete::handle(self, h, m)).await,
                ApiKey::DescribeGroups => answer(request, |h, m| api::describe_groups::handle(self, h, m)).await,
                ApiKey::ListGroups => answer(request, |h, m| api::list_groups::handle(self, h, m)).await,
                ApiKey::DeleteGroups => answer(request, |h, m| api::delete_groups::handle(self, h, m)).await,
                ApiKey::ConsumerGroupHeartbeat => {
                    answer(request, |h, m| api::consumer_group_heartbeat::handle(self, h, m)).await
                }
                ApiKey::ConsumerGroupDescribe => {
                    answer(request, |h, m| api::consumer_group_describe::handle(self, h, m)).await
                }
                ApiKey::AddPartitionsToTxn => {
                    answer(request, |h, m| api::add_partitions_to_txn::handle(self, h, m)).await
                }
                ApiKey::AddOffsetsToTxn => answer(request, |h, m| api::add_offsets_to_txn::handle(self, h, m)).await,
                ApiKey::EndTxn => answer(request, |h, m| api::end_txn::handle(self, h, m)).await,
                ApiKey::WriteTxnMarkers => answer(request, |h, m| api::write_txn_markers::handle(self, h, m)).await,
                ApiKey::TxnOffsetCommit => answer(request, |h, m| api::txn_offset_commit::handle(self, h, m)).await,
                ApiKey::ShareFetch => api::share_fetch::handle(self, request).await,
                ApiKey::ShareAcknowledge => answer(request, |h, m| api::share_acknowledge::handle(self, h, m)).await,
                ApiKey::DescribeUserScramCredentials => {
                    answer(request, |h, m| api::describe_user_scram_credentials::handle(self, h, m)).await
                }
                ApiKey::AlterUserScramCredentials => {
                    answer(request, |h, m| api::alter_user_scram_credentials::handle(self, h, m)).await
                }
                ApiKey::DescribeTransactions => {
                    answer(request, |h, m| api::describe_transactions::handle(self, h, m)).await
                }
                ApiKey::ListTransactions => answer(request, |h, m| api::list_transactions::handle(self, h, m)).await,
                ApiKey::ShareGroupHeartbeat => {
                    answer(request, |h, m| api::share_group_heartbeat::handle(self, h, m)).await
                }
                ApiKey::ShareGroupDescribe => {
                    answer(request, |h, m| api::share_group_describe::handle(self, h, m)).await
                }
                ApiKey::StreamsGroupHeartbeat => {
                    answer(request, |h, m| api::streams_group_heartbeat::handle(self, h, m)).await
                }
                ApiKey::StreamsGroupDescribe => {
                    answer(request, |h, m| api::streams_group_describe::handle(self, h, m)).await
                }
                ApiKey::DescribeShareGroupOffsets => {
                    answer(request, |h, m| api::describe_share_group_offsets::handle(self, h, m)).await
                }
                ApiKey::AlterShareGroupOffsets => {
                    answer(request, |h, m| api::alter_share_group_offsets::handle(self, h, m)).await
                }
                ApiKey::DeleteShareGroupOffsets => {
                    answer(request, |h, m| api::delete_share_group_offsets::handle(self, h, m)).await
                }
                ApiKey::DescribeClientQuotas => {
                    answer(request, |h, m| api::describe_client_quotas::handle(self, h, m)).await
                }
                ApiKey::AlterClientQuotas => answer(request, |h, m| api::alter_client_quotas::handle(self, h, m)).await,
                _ => Err(Error::UnsupportedVersion { api: request.head.api, version: request.head.version }),
            }
        };
        Box::pin(traced("broker", work))
    }
}

/// Decodes the request, runs its API's function and wraps the answer.
async fn answer<M, R, F>(request: Request, handle: impl FnOnce(Head, M) -> F) -> Result<Response, Error>
where
    M: Decodable + Send + 'static,
    R: Message,
    F: Future<Output = R>,
{
    let (head, message) = request.into_message::<M>()?;
    Ok(Response::new(handle(head, message).await))
}
