//! CreateAcls: adds ACLs, each for itself; one that is there already is a success.

use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::acl::{Acl, Asked};

use super::describe_acls::check_enabled;
use super::reply::ApiError;
use crate::Broker;
use crate::security::acls::{MAX_ACLS, fits};

/// Answers CreateAcls: results in the order of the request.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: CreateAclsRequest) -> CreateAclsResponse {
    let asked = |creation: &kafka_protocol::messages::create_acls_request::AclCreation| -> Result<Acl, ApiError> {
        check_enabled(broker)?;
        let acl = Acl::try_from(Asked {
            resource_type: creation.resource_type,
            name: &creation.resource_name,
            pattern: creation.resource_pattern_type,
            principal: &creation.principal,
            host: &creation.host,
            operation: creation.operation,
            permission: creation.permission_type,
        });
        let acl = acl.map_err(|why| ApiError::new(ErrorCode::InvalidRequest, why.0))?;
        match fits(&acl) {
            true => Ok(acl),
            false => Err(ApiError::new(ErrorCode::InvalidRequest, "name, principal and host are too long together")),
        }
    };
    let outcomes: Vec<_> = request.creations.iter().map(asked).collect();
    let new: Vec<Acl> = outcomes.iter().filter_map(|acl| acl.as_ref().ok().cloned()).collect();
    let stored = match new.is_empty() {
        true => Ok(()),
        false => store(broker, new).await,
    };
    let results = outcomes.into_iter().map(|outcome| match outcome.and_then(|_| stored.clone()) {
        Ok(()) => AclCreationResult::default(),
        Err(error) => AclCreationResult::default().with_error_code(error.code.code()).with_error_message(error.text()),
    });
    CreateAclsResponse::default().with_results(results.collect())
}

/// All or none: a request that would be too many changes nothing.
async fn store(broker: &Broker, new: Vec<Acl>) -> Result<(), ApiError> {
    let stored = broker.acls.change(move |acls| {
        let fresh: Vec<Acl> = new.into_iter().filter(|acl| !acls.contains_key(acl)).collect();
        if acls.len() + fresh.len() > MAX_ACLS {
            let message = format!("There are at most {MAX_ACLS} ACLs: use prefixed patterns, or remove some.");
            return Err(ApiError::new(ErrorCode::PolicyViolation, message));
        }
        acls.extend(fresh.into_iter().map(|acl| (acl, ())));
        Ok(())
    });
    stored.await?
}
