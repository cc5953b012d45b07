//! DescribeUserScramCredentials (KIP-554): who has a SCRAM password, and how often it was hashed.

use std::collections::HashSet;

use kafka_protocol::messages::describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::Users;

use super::reply::{duplicates, text};
use crate::Broker;

/// Answers DescribeUserScramCredentials; without names it is everybody, sorted.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let known = broker.credentials.snapshot().all();
    let results = match request.users.filter(|users| !users.is_empty()) {
        None => {
            let mut names: Vec<&String> = known.keys().collect();
            names.sort_unstable();
            names.into_iter().map(|user| describe(&known, user)).collect()
        }
        Some(users) => {
            let twice: HashSet<String> =
                duplicates(users.iter().map(|user| user.name.as_str())).into_iter().map(str::to_owned).collect();
            let mut told = HashSet::new();
            let once = users.iter().map(|user| user.name.as_str()).filter(|user| told.insert(*user));
            once.map(|user| if twice.contains(user) { asked_twice(user) } else { describe(&known, user) }).collect()
        }
    };
    DescribeUserScramCredentialsResponse::default().with_results(results)
}

fn describe(known: &Users, user: &str) -> DescribeUserScramCredentialsResult {
    let result = DescribeUserScramCredentialsResult::default().with_user(text(user));
    let Some(credentials) = known.get(user) else {
        let message = format!("Attempt to describe a user credential that does not exist: {user}");
        return result.with_error_code(ErrorCode::ResourceNotFound.code()).with_error_message(Some(text(&message)));
    };
    let mut infos: Vec<CredentialInfo> = credentials
        .iter()
        .map(|(mechanism, credential)| {
            CredentialInfo::default().with_mechanism(*mechanism as i8).with_iterations(credential.iterations)
        })
        .collect();
    infos.sort_unstable_by_key(|info| info.mechanism);
    result.with_credential_infos(infos)
}

fn asked_twice(user: &str) -> DescribeUserScramCredentialsResult {
    let message = format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
    DescribeUserScramCredentialsResult::default()
        .with_user(text(user))
        .with_error_code(ErrorCode::DuplicateResource.code())
        .with_error_message(Some(text(&message)))
}
