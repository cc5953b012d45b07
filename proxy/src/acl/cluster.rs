//! What only the cluster's permission decides about.

use kafka_protocol::messages::alter_client_quotas_response::{self, EntityData};
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::*;
use krocket_protocol::StrBytes;
use krocket_stack::security::Operation::{Alter, AlterConfigs, Describe, DescribeConfigs};
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;
use super::rest::whole;

fn sentence() -> Option<StrBytes> {
    Some(StrBytes::from_static_str("Cluster authorization failed."))
}

/// DescribeAcls: Describe.
pub(super) async fn describe_acls(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &DescribeAclsRequest| ask.cluster(Describe);
    whole(request, next, check, |_, code| {
        DescribeAclsResponse::default().with_error_code(code).with_error_message(sentence())
    })
    .await
}

/// CreateAcls: Alter.
pub(super) async fn create_acls(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &CreateAclsRequest| ask.cluster(Alter);
    whole(request, next, check, |message, code| {
        let result = AclCreationResult::default().with_error_code(code).with_error_message(sentence());
        CreateAclsResponse::default().with_results(vec![result; message.creations.len()])
    })
    .await
}

/// DeleteAcls: Alter.
pub(super) async fn delete_acls(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &DeleteAclsRequest| ask.cluster(Alter);
    whole(request, next, check, |message, code| {
        let result = DeleteAclsFilterResult::default().with_error_code(code).with_error_message(sentence());
        DeleteAclsResponse::default().with_filter_results(vec![result; message.filters.len()])
    })
    .await
}

/// DescribeLogDirs: Describe. Before version 3 the answer has no place for a code and is empty, as Kafka's.
pub(super) async fn describe_log_dirs(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let version = request.head.version;
    let check = |_: &DescribeLogDirsRequest| ask.cluster(Describe);
    whole(request, next, check, |_, code| {
        DescribeLogDirsResponse::default().with_error_code(if version >= 3 { code } else { 0 })
    })
    .await
}

/// DescribeQuorum: Describe.
pub(super) async fn describe_quorum(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &DescribeQuorumRequest| ask.cluster(Describe);
    whole(request, next, check, |_, code| {
        DescribeQuorumResponse::default().with_error_code(code).with_error_message(sentence())
    })
    .await
}

/// ElectLeaders: Alter.
pub(super) async fn elect_leaders(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let version = request.head.version;
    let check = |_: &ElectLeadersRequest| ask.cluster(Alter);
    whole(request, next, check, |message, code| {
        let partition = |id| PartitionResult::default().with_partition_id(id).with_error_code(code);
        let topics = message.topic_partitions.into_iter().flatten().map(|topic| {
            let partitions = topic.partitions.into_iter().map(partition).collect();
            ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(partitions)
        });
        let response = ElectLeadersResponse::default().with_replica_election_results(topics.collect());
        response.with_error_code(if version >= 1 { code } else { 0 })
    })
    .await
}

/// AlterPartitionReassignments: Alter.
pub(super) async fn alter_reassignments(
    ask: &Ask<'_>,
    request: Request,
    next: &dyn Handler,
) -> Result<Response, Error> {
    let check = |_: &AlterPartitionReassignmentsRequest| ask.cluster(Alter);
    whole(request, next, check, |_, code| {
        AlterPartitionReassignmentsResponse::default().with_error_code(code).with_error_message(sentence())
    })
    .await
}

/// ListPartitionReassignments: Describe.
pub(super) async fn list_reassignments(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &ListPartitionReassignmentsRequest| ask.cluster(Describe);
    whole(request, next, check, |_, code| {
        ListPartitionReassignmentsResponse::default().with_error_code(code).with_error_message(sentence())
    })
    .await
}

/// ListConfigResources: DescribeConfigs.
pub(super) async fn list_config_resources(
    ask: &Ask<'_>,
    request: Request,
    next: &dyn Handler,
) -> Result<Response, Error> {
    let check = |_: &ListConfigResourcesRequest| ask.cluster(DescribeConfigs);
    whole(request, next, check, |_, code| ListConfigResourcesResponse::default().with_error_code(code)).await
}

/// DescribeUserScramCredentials: Describe.
pub(super) async fn describe_scram(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &DescribeUserScramCredentialsRequest| ask.cluster(Describe);
    whole(request, next, check, |_, code| {
        DescribeUserScramCredentialsResponse::default().with_error_code(code).with_error_message(sentence())
    })
    .await
}

/// AlterUserScramCredentials: Alter.
pub(super) async fn alter_scram(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &AlterUserScramCredentialsRequest| ask.cluster(Alter);
    whole(request, next, check, |message, code| {
        let mut users: Vec<StrBytes> = message.deletions.into_iter().map(|it| it.name).collect();
        users.extend(message.upsertions.into_iter().map(|it| it.name));
        users.sort();
        users.dedup();
        let result = |user| {
            let result = AlterUserScramCredentialsResult::default().with_user(user).with_error_code(code);
            result.with_error_message(sentence())
        };
        AlterUserScramCredentialsResponse::default().with_results(users.into_iter().map(result).collect())
    })
    .await
}

/// DescribeClientQuotas: DescribeConfigs.
pub(super) async fn describe_quotas(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &DescribeClientQuotasRequest| ask.cluster(DescribeConfigs);
    whole(request, next, check, |_, code| {
        let response = DescribeClientQuotasResponse::default().with_error_code(code);
        response.with_error_message(sentence()).with_entries(None)
    })
    .await
}

/// AlterClientQuotas: AlterConfigs.
pub(super) async fn alter_quotas(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &AlterClientQuotasRequest| ask.cluster(AlterConfigs);
    whole(request, next, check, |message, code| {
        let entries = message.entries.into_iter().map(|entry| {
            let entity = entry
                .entity
                .into_iter()
                .map(|it| EntityData::default().with_entity_type(it.entity_type).with_entity_name(it.entity_name));
            alter_client_quotas_response::EntryData::default()
                .with_error_code(code)
                .with_error_message(sentence())
                .with_entity(entity.collect())
        });
        AlterClientQuotasResponse::default().with_entries(entries.collect())
    })
    .await
}
