//! DescribeAcls, CreateAcls and DeleteAcls, through their bytes.

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use krocket_protocol::{ApiKey, ErrorCode};
use krocket_stack::security::{Operation, ResourceType};

use super::testing::{TestBroker, error, text};
use crate::Settings;

async fn broker(authorizer: bool) -> TestBroker {
    TestBroker::settings(Settings { node_id: 7, authorizer, ..Settings::default() }).await
}

fn creation(name: &'static str, pattern: i8, operation: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text(name))
        .with_resource_pattern_type(pattern)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(3)
}

async fn create(broker: &TestBroker, version: i16, creations: Vec<AclCreation>) -> Vec<Option<ErrorCode>> {
    let request = CreateAclsRequest::default().with_creations(creations);
    let response: CreateAclsResponse = broker.ask(ApiKey::CreateAcls, version, request).await;
    response.results.iter().map(|result| error(result.error_code)).collect()
}

fn everything() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(1)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1)
}

/// As `pattern name operation,operation`.
async fn describe(broker: &TestBroker, version: i16, request: DescribeAclsRequest) -> Vec<String> {
    let response: DescribeAclsResponse = broker.ask(ApiKey::DescribeAcls, version, request).await;
    assert_eq!(error(response.error_code), None);
    let resource = |found: &kafka_protocol::messages::describe_acls_response::DescribeAclsResource| {
        let operations: Vec<String> = found.acls.iter().map(|acl| acl.operation.to_string()).collect();
        format!("{} {} {}", found.pattern_type, found.resource_name.as_str(), operations.join(","))
    };
    response.resources.iter().map(resource).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acls_are_created_found_and_deleted_at_every_version_and_survive_a_restart() {
    for version in 1..=3 {
        let broker = broker(true).await;
        let new = vec![creation("orders", 3, 3), creation("ord", 4, 4), creation("orders", 3, 8), creation("", 3, 3)];
        assert_eq!(create(&broker, version, new).await, [None, None, None, Some(ErrorCode::InvalidRequest)]);
        assert_eq!(create(&broker, version, vec![creation("orders", 3, 3)]).await, [None], "a second time");

        let broker = broker.restart().await;

        assert_eq!(describe(&broker, version, everything()).await, ["4 ord 4", "3 orders 3,8"]);
        assert_eq!(broker.broker.acls().get().all().len(), 3);
        let matching = everything().with_resource_name_filter(Some(text("orders"))).with_pattern_type_filter(2);
        assert_eq!(describe(&broker, version, matching.with_operation(4)).await, ["4 ord 4"]);

        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(2)
            .with_resource_name_filter(Some(text("orders")))
            .with_pattern_type_filter(3)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(1)
            .with_permission_type(1);
        let unknown = filter.clone().with_operation(99);
        let request = DeleteAclsRequest::default().with_filters(vec![unknown, filter.clone(), filter]);
        let response: DeleteAclsResponse = broker.ask(ApiKey::DeleteAcls, version, request).await;
        let found: Vec<_> =
            response.filter_results.iter().map(|it| (error(it.error_code), it.matching_acls.len())).collect();
        assert_eq!(found, [(Some(ErrorCode::InvalidRequest), 0), (None, 2), (None, 0)]);

        let broker = broker.restart().await;
        assert_eq!(describe(&broker, version, everything()).await, ["4 ord 4"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_and_operation_is_kept() {
    let broker = broker(true).await;
    let mut new = Vec::new();
    for resource_type in ResourceType::ALL {
        for operation in Operation::ALL {
            let name = if *resource_type == ResourceType::Cluster { "kafka-cluster" } else { "x" };
            new.push(creation(name, 3, *operation as i8).with_resource_type(*resource_type as i8));
        }
    }
    let count = new.len();
    assert_eq!(create(&broker, 3, new).await, vec![None; count]);
    assert_eq!(broker.broker.acls().get().all().len(), count);
    let token = creation("x", 3, 3).with_resource_type(6);
    assert_eq!(create(&broker, 3, vec![token]).await, [Some(ErrorCode::InvalidRequest)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authorizer_security_is_disabled() {
    let broker = broker(false).await;
    let disabled = Some(ErrorCode::SecurityDisabled);
    assert_eq!(create(&broker, 3, vec![creation("orders", 3, 3)]).await, [disabled]);
    let response: DescribeAclsResponse = broker.ask(ApiKey::DescribeAcls, 3, everything()).await;
    assert_eq!(error(response.error_code), disabled);
    let request = DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default()]);
    let response: DeleteAclsResponse = broker.ask(ApiKey::DeleteAcls, 3, request).await;
    assert_eq!(error(response.filter_results[0].error_code), disabled);
    assert!(broker.broker.acls().get().all().is_empty());
}
