//! DescribeAcls: the ACLs that a filter finds, by resource.

use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::acl::{Acl, AclFilter};

use super::reply::{ApiError, text};
use crate::Broker;

/// What all three ACL APIs answer while the authorizer is off.
pub(super) fn check_enabled(broker: &Broker) -> Result<(), ApiError> {
    match broker.settings.authorizer {
        true => Ok(()),
        false => Err(ApiError::new(ErrorCode::SecurityDisabled, "No Authorizer is configured.")),
    }
}

/// Answers DescribeAcls.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let filter = AclFilter {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter.as_deref(),
        pattern: request.pattern_type_filter,
        principal: request.principal_filter.as_deref(),
        host: request.host_filter.as_deref(),
        operation: request.operation,
        permission: request.permission_type,
    };
    let invalid = |why: krocket_stack::security::InvalidAcl| ApiError::new(ErrorCode::InvalidRequest, why.0);
    if let Err(error) = check_enabled(broker).and_then(|()| filter.check().map_err(invalid)) {
        return DescribeAclsResponse::default().with_error_code(error.code.code()).with_error_message(error.text());
    }
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    let acls = broker.acls.snapshot().get();
    for acl in acls.all().iter().filter(|acl| filter.matches(acl)) {
        let own = resources.last().is_some_and(|last| {
            (last.resource_type, last.resource_name.as_str(), last.pattern_type)
                == (acl.resource_type as i8, acl.name.as_str(), acl.pattern as i8)
        });
        if !own {
            resources.push(resource(acl));
        }
        let description = AclDescription::default()
            .with_principal(text(&acl.principal))
            .with_host(text(&acl.host))
            .with_operation(acl.operation as i8)
            .with_permission_type(acl.permission as i8);
        resources.last_mut().expect("there is one now").acls.push(description);
    }
    DescribeAclsResponse::default().with_resources(resources)
}

fn resource(acl: &Acl) -> DescribeAclsResource {
    DescribeAclsResource::default()
        .with_resource_type(acl.resource_type as i8)
        .with_resource_name(text(&acl.name))
        .with_pattern_type(acl.pattern as i8)
}
