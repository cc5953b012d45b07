//! AlterUserScramCredentials (KIP-554): passwords are set and taken away, salted and iterated by the client already.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response::{
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;
use krocket_stack::security::scram::{MAX_ITERATIONS, MIN_ITERATIONS};
use krocket_stack::security::{ScramCredential, ScramMechanism};

use super::reply::ApiError;
use crate::Broker;
use crate::security::All;
use crate::security::credentials::CredentialKind;

/// Answers AlterUserScramCredentials: the users whose changes are all valid change as one. As in Kafka's
/// ScramControlManager, except that both mechanisms of a user may be set with one request, as `kafka-configs` offers.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let users: BTreeSet<StrBytes> = deleted(&request).chain(upserted(&request)).map(|(user, _)| user.clone()).collect();
    let outcomes = match broker.credentials.change(move |credentials| alter(credentials, &request)).await {
        Ok(outcomes) => outcomes,
        Err(error) => users.into_iter().map(|user| (user, Err(ApiError::from(error.clone())))).collect(),
    };
    let results = outcomes.into_iter().map(|(user, outcome)| {
        let result = AlterUserScramCredentialsResult::default().with_user(user);
        match outcome {
            Ok(()) => result,
            Err(error) => result.with_error_code(error.code.code()).with_error_message(error.text()),
        }
    });
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}

fn deleted(request: &AlterUserScramCredentialsRequest) -> impl Iterator<Item = (&StrBytes, i8)> {
    request.deletions.iter().map(|deletion| (&deletion.name, deletion.mechanism))
}

fn upserted(request: &AlterUserScramCredentialsRequest) -> impl Iterator<Item = (&StrBytes, i8)> {
    request.upsertions.iter().map(|upsertion| (&upsertion.name, upsertion.mechanism))
}

/// What happens to one user's credential of one mechanism; `None` deletes it.
type Change = ((String, ScramMechanism), Option<ScramCredential>);

/// Takes over the changes of the users that have no invalid one, and tells each user's outcome.
fn alter(
    credentials: &mut All<CredentialKind>,
    request: &AlterUserScramCredentialsRequest,
) -> BTreeMap<StrBytes, Result<(), ApiError>> {
    let deletions = deleted(request).map(|(user, mechanism)| (user, mechanism, delete(credentials, user, mechanism)));
    let upsertions = request.upsertions.iter().map(|it| (&it.name, it.mechanism, upsert(it)));
    let mut users: BTreeMap<StrBytes, Result<Vec<Change>, ApiError>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (user, mechanism, change) in deletions.chain(upsertions) {
        let again = !seen.insert((user, mechanism));
        let of_user = users.entry(user.clone()).or_insert_with(|| Ok(Vec::new()));
        match (of_user.as_mut(), change) {
            (Ok(_), _) if again => {
                let message = "A user credential cannot be altered twice in the same request";
                *of_user = Err(ApiError::new(ErrorCode::DuplicateResource, message));
            }
            (Ok(changes), Ok(change)) => changes.push(change),
            (Ok(_), Err(error)) => *of_user = Err(error),
            (Err(_), _) => {}
        }
    }
    let mut take_over = |changes: Vec<Change>| {
        for (whose, credential) in changes {
            match credential {
                Some(credential) => credentials.insert(whose, Arc::new(credential)),
                None => credentials.remove(&whose),
            };
        }
    };
    users.into_iter().map(|(user, changes)| (user, changes.map(&mut take_over))).collect()
}

fn delete(credentials: &All<CredentialKind>, user: &str, mechanism: i8) -> Result<Change, ApiError> {
    let whose = (user.to_owned(), check(user, mechanism)?);
    if !credentials.contains_key(&whose) {
        let message = "Attempt to delete a user credential that does not exist";
        return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
    }
    Ok((whose, None))
}

fn upsert(upsertion: &ScramCredentialUpsertion) -> Result<Change, ApiError> {
    let mechanism = check(&upsertion.name, upsertion.mechanism)?;
    let unacceptable = |message: &str| Err(ApiError::new(ErrorCode::UnacceptableCredential, message));
    if upsertion.iterations < MIN_ITERATIONS {
        return unacceptable("Too few iterations");
    }
    if upsertion.iterations > MAX_ITERATIONS {
        return unacceptable("Too many iterations");
    }
    // Kafka takes these and the user can never log in.
    if upsertion.salt.is_empty() || upsertion.salted_password.len() != mechanism.length() {
        return unacceptable("The salt must not be empty and the salted password as long as the mechanism's hash");
    }
    let credential: ScramCredential =
        mechanism.credential(&upsertion.salted_password, upsertion.salt.to_vec(), upsertion.iterations);
    Ok(((upsertion.name.to_string(), mechanism), Some(credential)))
}

fn check(user: &str, mechanism: i8) -> Result<ScramMechanism, ApiError> {
    if user.is_empty() {
        return Err(ApiError::new(ErrorCode::UnacceptableCredential, "Username must not be empty"));
    }
    ScramMechanism::from_number(mechanism)
        .ok_or_else(|| ApiError::new(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialDeletion;
    use kafka_protocol::messages::describe_user_scram_credentials_request::{
        DescribeUserScramCredentialsRequest, UserName,
    };
    use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResponse;
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{TestBroker, error};

    const SHA256: i8 = 1;
    const SHA512: i8 = 2;

    fn set(user: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
        let known = ScramMechanism::from_number(mechanism);
        let salted = known.map_or(vec![1], |known| known.salted(b"secret", b"salt", iterations));
        ScramCredentialUpsertion::default()
            .with_name(StrBytes::from_string(user.to_owned()))
            .with_mechanism(mechanism)
            .with_iterations(iterations)
            .with_salt(Bytes::from_static(b"salt"))
            .with_salted_password(salted.into())
    }

    fn unset(user: &str, mechanism: i8) -> ScramCredentialDeletion {
        ScramCredentialDeletion::default().with_name(StrBytes::from_string(user.to_owned())).with_mechanism(mechanism)
    }

    async fn alter(
        broker: &TestBroker,
        upsertions: Vec<ScramCredentialUpsertion>,
        deletions: Vec<ScramCredentialDeletion>,
    ) -> Vec<(String, Option<ErrorCode>)> {
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(upsertions).with_deletions(deletions);
        let response: AlterUserScramCredentialsResponse =
            broker.ask(ApiKey::AlterUserScramCredentials, 0, request).await;
        response.results.iter().map(|result| (result.user.to_string(), error(result.error_code))).collect()
    }

    /// User, error, mechanisms with iterations.
    async fn describe(broker: &TestBroker, users: Option<&[&str]>) -> Vec<(String, Option<ErrorCode>, Vec<(i8, i32)>)> {
        let name = |user: &&str| UserName::default().with_name(StrBytes::from_string(user.to_string()));
        let request = DescribeUserScramCredentialsRequest::default()
            .with_users(users.map(|users| users.iter().map(name).collect()));
        let response: DescribeUserScramCredentialsResponse =
            broker.ask(ApiKey::DescribeUserScramCredentials, 0, request).await;
        assert_eq!(error(response.error_code), None);
        let infos = |result: &kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult| {
            result.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect::<Vec<_>>()
        };
        response
            .results
            .iter()
            .map(|result| (result.user.to_string(), error(result.error_code), infos(result)))
            .collect()
    }

    #[tokio::test]
    async fn credentials_are_set_described_deleted_and_survive() {
        let broker = TestBroker::start().await;
        let both = vec![set("alice", SHA256, 4096), set("alice", SHA512, 8192), set("bob", SHA256, 16_384)];
        assert_eq!(alter(&broker, both, vec![]).await, [("alice".to_owned(), None), ("bob".to_owned(), None)]);

        let broker = broker.restart().await;
        let known = broker.broker.credentials();
        let credential = known.get("alice", ScramMechanism::Sha512).expect("stored");
        assert!(ScramMechanism::Sha512.is_password(&credential, "secret"));
        assert_eq!(
            describe(&broker, None).await,
            [
                ("alice".to_owned(), None, vec![(SHA256, 4096), (SHA512, 8192)]),
                ("bob".to_owned(), None, vec![(SHA256, 16_384)])
            ]
        );
        assert_eq!(
            describe(&broker, Some(&["bob", "eve", "alice", "alice"])).await,
            [
                ("bob".to_owned(), None, vec![(SHA256, 16_384)]),
                ("eve".to_owned(), Some(ErrorCode::ResourceNotFound), vec![]),
                ("alice".to_owned(), Some(ErrorCode::DuplicateResource), vec![]),
            ]
        );

        let outcome = alter(&broker, vec![], vec![unset("alice", SHA256), unset("bob", SHA256)]).await;
        assert_eq!(outcome, [("alice".to_owned(), None), ("bob".to_owned(), None)]);
        let broker = broker.restart().await;
        assert_eq!(describe(&broker, Some(&[])).await, [("alice".to_owned(), None, vec![(SHA512, 8192)])]);
    }

    #[tokio::test]
    async fn what_kafka_refuses_is_refused_and_changes_nothing() {
        let broker = TestBroker::start().await;
        for (what, upsertions, deletions, expected) in [
            ("no name", vec![set("", SHA256, 4096)], vec![], ErrorCode::UnacceptableCredential),
            ("few", vec![set("a", SHA256, 4095)], vec![], ErrorCode::UnacceptableCredential),
            ("many", vec![set("a", SHA256, 16_385)], vec![], ErrorCode::UnacceptableCredential),
            ("mechanism", vec![set("a", 3, 4096)], vec![], ErrorCode::UnsupportedSaslMechanism),
            (
                "no salt",
                vec![set("a", SHA256, 4096).with_salt(Bytes::new())],
                vec![],
                ErrorCode::UnacceptableCredential,
            ),
            ("twice", vec![set("a", SHA256, 4096), set("a", SHA256, 4096)], vec![], ErrorCode::DuplicateResource),
            ("one bad", vec![set("a", SHA256, 4096), set("a", SHA512, 1)], vec![], ErrorCode::UnacceptableCredential),
            ("unknown", vec![], vec![unset("a", SHA256)], ErrorCode::ResourceNotFound),
        ] {
            let outcome = alter(&broker, upsertions, deletions).await;
            assert_eq!(outcome.len(), 1, "{what}");
            assert_eq!(outcome[0].1, Some(expected), "{what}");
        }
        assert_eq!(describe(&broker, None).await, []);
    }
}
