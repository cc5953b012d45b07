use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::api;
use krocket_stack::{Body, Head, Stack};

use super::*;

/// Knows nothing.
struct Nothing;

impl Catalog for Nothing {
    fn name(&self, _: Uuid) -> Option<StrBytes> {
        None
    }

    fn exists(&self, _: &str) -> bool {
        false
    }

    fn creates_topics(&self) -> bool {
        true
    }

    fn source(&self, _: &str) -> Option<String> {
        None
    }

    fn group(&self, _: &str) -> Option<String> {
        None
    }

    fn reads(&self, _: &str, _: &mut ProducePartition) -> Vec<String> {
        Vec::new()
    }
}

/// Tells that it was asked.
struct Reached;

impl Handler for Reached {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async { Err(Error::Close("reached".to_owned())) })
    }
}

fn stack(policy: Policy) -> Arc<dyn Handler> {
    let layer = Authorizer::new(Arc::default(), policy, Arc::new(Nothing));
    Stack::new(Arc::new(Reached)).layer(layer).build()
}

fn client(name: &str) -> Arc<Connection> {
    let connection = Connection { id: 1, ..Connection::internal("test") };
    connection.authenticated.set(Principal::user(name)).expect("nobody yet");
    Arc::new(connection)
}

async fn outcome(stack: &Arc<dyn Handler>, api: ApiKey, version: i16, connection: &Arc<Connection>) -> String {
    let head = Head { api, version, client_id: None, connection: connection.clone() };
    match stack.call(Request { head, body: Body::Raw(Bytes::new()) }).await {
        Err(error) => error.to_string(),
        Ok(_) => "an answer".to_owned(),
    }
}

#[tokio::test]
async fn every_api_that_is_served_has_a_rule() {
    let stack = stack(Policy::default());
    for row in api::TABLE {
        let outcome = outcome(&stack, row.key, row.max, &client("stranger")).await;
        assert!(!outcome.contains("no authorization rule"), "{:?}: {outcome}", row.key);
        // Bytes that are none are looked at here, not passed on unseen.
        let open = matches!(row.key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        assert_eq!(outcome == "reached", open, "{:?}: {outcome}", row.key);
    }
    assert!(outcome(&stack, ApiKey::Vote, 0, &client("stranger")).await.contains("no authorization rule"));
}

#[tokio::test]
async fn super_users_and_krocket_itself_pass_undecoded() {
    let policy = Policy { super_users: [Principal::user("root")].into(), allow_if_no_acl: false };
    let stack = stack(policy);
    for row in api::TABLE {
        assert_eq!(outcome(&stack, row.key, row.max, &client("root")).await, "reached");
        let internal = Arc::new(Connection::internal("worker"));
        assert_eq!(outcome(&stack, row.key, row.max, &internal).await, "reached");
    }
}
