//! DeleteAcls: removes what filters find and tells what that was.

use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse, delete_acls_request};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::acl::{Acl, AclFilter};

use super::describe_acls::check_enabled;
use super::reply::{ApiError, text};
use crate::Broker;

/// Answers DeleteAcls: results in the order of the request; an ACL that several filters find is told by the first.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let checks: Vec<Result<(), ApiError>> = request
        .filters
        .iter()
        .map(|asked| {
            check_enabled(broker)?;
            filter(asked).check().map_err(|why| ApiError::new(ErrorCode::InvalidRequest, why.0))
        })
        .collect();
    let valid: Vec<_> =
        request.filters.into_iter().zip(&checks).filter(|(_, ok)| ok.is_ok()).map(|(it, _)| it).collect();
    let removed = match valid.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let change = broker.acls.change(move |acls| {
                let mut remove = |asked: &delete_acls_request::DeleteAclsFilter| -> Vec<Acl> {
                    let filter = filter(asked);
                    let found: Vec<Acl> = acls.keys().filter(|acl| filter.matches(acl)).cloned().collect();
                    found.iter().for_each(|acl| {
                        acls.remove(acl);
                    });
                    found
                };
                valid.iter().map(&mut remove).collect::<Vec<_>>()
            });
            change.await
        }
    };
    let mut removed = removed.map(Vec::into_iter).map_err(ApiError::from);
    let results = checks.into_iter().map(|check| {
        let found = check.and_then(|()| removed.as_mut().map(Iterator::next).map_err(|error| error.clone()));
        match found {
            Ok(found) => {
                let matching = found.unwrap_or_default().iter().map(matching).collect();
                DeleteAclsFilterResult::default().with_matching_acls(matching)
            }
            Err(error) => {
                DeleteAclsFilterResult::default().with_error_code(error.code.code()).with_error_message(error.text())
            }
        }
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

fn filter(asked: &delete_acls_request::DeleteAclsFilter) -> AclFilter<'_> {
    AclFilter {
        resource_type: asked.resource_type_filter,
        name: asked.resource_name_filter.as_deref(),
        pattern: asked.pattern_type_filter,
        principal: asked.principal_filter.as_deref(),
        host: asked.host_filter.as_deref(),
        operation: asked.operation,
        permission: asked.permission_type,
    }
}

fn matching(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(acl.resource_type as i8)
        .with_resource_name(text(&acl.name))
        .with_pattern_type(acl.pattern as i8)
        .with_principal(text(&acl.principal))
        .with_host(text(&acl.host))
        .with_operation(acl.operation as i8)
        .with_permission_type(acl.permission as i8)
}
