//! The authorizer in front of everything: every API and every HTTP route, as a stranger and with each permission.

mod apis;
mod features;
mod http;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use kafka_protocol::messages::{CreateTopicsRequest, TopicName, create_topics_request::CreatableTopic};
use kafka_protocol::protocol::{Decodable, Request as KafkaRequest};
use krocket_broker::{Broker, Settings};
use krocket_config::rules::Live;
use krocket_protocol::{ApiKey, StrBytes, api};
use krocket_proxy::acl::{Authorizer, Policy};
use krocket_stack::security::acl::{Acl, CLUSTER, Operation, Pattern, Permission, ResourceType};
use krocket_stack::{Body, Connection, Head, Principal, Request, Response};

use crate::stack::Features;

/// A krocket with an authorizer, asked in this process.
struct World {
    broker: Arc<Broker>,
    features: Features,
    authorizer: Authorizer,
    rules: Live,
    _folder: tempfile::TempDir,
}

const SUPER: &str = "root";
/// Whom ACLs are made for.
const USER: &str = "alice";

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().to_owned();
        let open = move || Broker::open(&data, Settings { authorizer: true, ..Settings::default() });
        let broker = tokio::task::spawn_blocking(open).await.expect("no panic").expect("opens");
        let rules = Live::default();
        let mut features = Features::start(broker.clone(), broker.clone(), rules.clone());
        let policy = Policy { super_users: [Principal::user(SUPER)].into(), ..Policy::default() };
        let authorizer = features.authorize(&broker, rules.clone(), policy);
        World { broker, features, authorizer, rules, _folder: folder }
    }

    /// Replaces all ACLs, each as `Read topic orders`, for [`USER`]; with a `!` before it is denied, with `..` at its end
    /// a name is a prefix.
    fn grant(&self, acls: &[&str]) {
        self.broker.acls().set(acls.iter().map(|text| acl(text)).collect());
    }

    /// Asks as somebody, through the request's bytes at the highest version.
    async fn ask<R: KafkaRequest>(&self, who: &Arc<Connection>, request: &R) -> R::Response {
        let api = ApiKey::try_from(R::KEY).expect("an API");
        let version = api::served(api).expect("served").max;
        self.ask_at(who, version, request).await
    }

    async fn ask_at<R: KafkaRequest>(&self, who: &Arc<Connection>, version: i16, request: &R) -> R::Response {
        let api = ApiKey::try_from(R::KEY).expect("an API");
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).expect("a request of this version");
        let head = Head { api, version, client_id: None, connection: who.clone() };
        let request = Request { head, body: Body::Raw(bytes.freeze()) };
        let answer = self.features.handler.call(request).await;
        let Response::Body(body) = answer.unwrap_or_else(|error| panic!("{api:?}: {error}")) else {
            panic!("{api:?}: no answer")
        };
        let chunks = body.encode(version).unwrap_or_else(|error| panic!("{api:?}: {error}"));
        let mut bytes = flat(chunks);
        R::Response::decode(&mut bytes, version).unwrap_or_else(|error| panic!("{api:?}: {error}"))
    }

    async fn create(&self, topic: &'static str) {
        let new = CreatableTopic::default().with_name(name(topic)).with_num_partitions(1).with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(5000);
        let response = self.ask(&client(SUPER), &request).await;
        assert_eq!(response.topics[0].error_code, 0, "{topic}");
    }
}

/// An answer's bytes, records included.
fn flat(chunks: krocket_protocol::chunk::Chunks) -> bytes::Bytes {
    let mut out = BytesMut::new();
    for chunk in chunks.finish() {
        out.extend_from_slice(&chunk.read().expect("in the log"));
    }
    out.freeze()
}

fn acl(text: &str) -> Acl {
    let (permission, text) = match text.strip_prefix('!') {
        Some(text) => (Permission::Deny, text),
        None => (Permission::Allow, text),
    };
    let mut words = text.split(' ');
    let operation = words.next().expect("an operation");
    let (resource_type, default) = match words.next() {
        Some("topic") => (ResourceType::Topic, ""),
        Some("group") => (ResourceType::Group, ""),
        Some("txn") => (ResourceType::TransactionalId, ""),
        Some("cluster") => (ResourceType::Cluster, CLUSTER),
        other => panic!("{other:?}"),
    };
    let name = words.next().unwrap_or(default);
    let (name, pattern) = match name.strip_suffix("..") {
        Some(prefix) => (prefix, Pattern::Prefixed),
        None => (name, Pattern::Literal),
    };
    Acl {
        resource_type,
        name: name.to_owned(),
        pattern,
        principal: format!("User:{USER}"),
        host: "*".to_owned(),
        operation: *Operation::ALL.iter().find(|it| format!("{it:?}") == operation).expect("an operation"),
        permission,
    }
}

fn client(user: &str) -> Arc<Connection> {
    Arc::new(Connection {
        id: 1,
        peer: SocketAddr::from(([10, 0, 0, 1], 4711)),
        listener: "test".to_owned(),
        software: OnceLock::new(),
        authenticated: OnceLock::from(Principal::user(user)),
    })
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn name(topic: &'static str) -> TopicName {
    TopicName(text(topic))
}

/// The error codes anywhere in an answer.
fn codes(answer: &impl Debug) -> Vec<i16> {
    let debug = format!("{answer:?}");
    let found = debug.split("error_code: ").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(|it| it.is_ascii_digit() || *it == '-').collect();
        digits.parse().ok()
    });
    found.filter(|code| *code != 0).collect()
}

/// Codes that mean: you may not.
const FAILED: [i16; 4] = [29, 30, 31, 53];

fn is_denied(answer: &impl Debug) -> bool {
    codes(answer).iter().any(|code| FAILED.contains(code))
}
