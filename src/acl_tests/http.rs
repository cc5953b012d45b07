use std::collections::BTreeSet;

use axum::body::Body as HttpBody;
use axum::handler::Handler as _;
use axum::http::{Method, Request as HttpRequest};
use axum::routing::MethodRouter;
use krocket_config::Config;
use krocket_config::rules::Prefixes;
use krocket_proxy::sasl::{Basic, Users};
use serde_json::Value;

use super::*;
use crate::http::auth::routes::{ROUTES, Rule};
use crate::http::auth::tokens::Tokens;
use crate::http::kafka::Kafka;
use crate::http::{Gate, openapi, snapshots, v1};
use crate::reload::Current;

const ALICE: &str = "token-of-alice-0123456789";
const ROOT: &str = "token-of-root-0123456789";

struct Site {
    world: World,
    endpoints: MethodRouter,
    document: Value,
}

impl Site {
    async fn start() -> Self {
        let mut world = World::start().await;
        let file = world._folder.path().join("tokens.toml");
        std::fs::write(&file, format!("{ALICE} = \"User:{USER}\"\n{ROOT} = \"User:{SUPER}\"\n")).expect("written");
        let gate = Gate::new(
            Some(world.authorizer.clone()),
            Arc::new(Tokens::open(&file).expect("valid")),
            Basic::new(Users::new(None, Arc::default(), b"secret")),
            world.rules.clone(),
        );
        let current = Current::fixed(&Config::default()).expect("the defaults are valid");
        let features = std::mem::take(&mut world.features.routes).merge(snapshots::routes(&world.broker));
        let (routes, document) = openapi::routes(Kafka::new(world.features.handler.clone()), current, features);
        let document = serde_json::to_value(document).expect("JSON");
        Site { world, endpoints: v1(routes, Some(gate)), document }
    }

    async fn ask(&self, method: &Method, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let mut request = HttpRequest::builder().method(method).uri(path).header("Content-Type", "application/json");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let request = request.body(HttpBody::from(body.to_owned())).expect("a request");
        let response = self.endpoints.clone().call(request, ()).await;
        let status = response.status().as_u16();
        if status == 401 {
            assert!(response.headers().contains_key("WWW-Authenticate"), "{method} {path}");
        }
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

fn body(path: &str) -> &'static str {
    match path {
        "/v1/views" => r#"{"name": "paid", "source": "orders", "filter": "paid"}"#,
        "/v1/messages" => r#"{"topic": "orders", "value": "x"}"#,
        _ => "{}",
    }
}

fn concrete(path: &str) -> String {
    path.replace("{name}", "orders").replace("{id}", "orders:0:0").replace("{group}", "billing")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_has_a_rule() {
    let site = Site::start().await;
    let mut documented = BTreeSet::new();
    for (path, item) in site.document["paths"].as_object().expect("paths") {
        documented.extend(item.as_object().expect("an item").keys().map(|it| format!("{} {path}", it.to_uppercase())));
    }
    let ruled: BTreeSet<String> = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(ruled.len(), ROUTES.len(), "a row is there twice");
    assert_eq!(documented, ruled);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_as_a_stranger_and_with_each_permission() {
    let site = Site::start().await;
    site.world.create("orders").await;
    let prefixes = Prefixes::default();
    for (method, path, rule) in ROUTES {
        let (at, body) = (concrete(path), body(path));
        for token in [None, Some("not-a-token-that-is-known")] {
            assert_eq!(site.ask(method, &at, token, body).await.0, 401, "{method} {path} as nobody");
        }
        site.world.grant(&[]);
        let (status, answer) = site.ask(method, &at, Some(ALICE), body).await;
        match rule {
            Rule::Known => assert_ne!(status, 401, "{method} {path}"),
            Rule::All(_) | Rule::NewView => {
                let sentence = answer["error"].as_str().unwrap_or_default();
                assert!(status == 403 && sentence.contains("User:alice may not"), "{method} {path}: {status} {answer}");
            }
            // A list may want a question before it answers.
            Rule::List(_) if status == 400 => {}
            Rule::List(_) => assert_eq!(answer["items"], serde_json::json!([]), "{method} {path}: {status}"),
        }
        if let Rule::All(checks) = rule {
            let param = if path.contains("{group}") {
                "billing"
            } else if path.contains("{id}") {
                "orders:0:0"
            } else {
                "orders"
            };
            let mut grants: Vec<Acl> = Vec::new();
            for (named, operation) in *checks {
                let check = named.check(*operation, param, &prefixes).unwrap_or_else(|_| panic!("{path}"));
                let acl = Acl {
                    resource_type: check.kind,
                    name: check.name,
                    operation: check.operation,
                    ..acl("All cluster")
                };
                grants.push(acl);
            }
            // Topics of a group need the group as well.
            if grants.iter().any(|acl| acl.name.ends_with(".billing") && acl.operation != Operation::Delete) {
                grants.push(acl("Read group billing"));
            }
            for left_out in 0..grants.len() {
                let mut some = grants.clone();
                some.remove(left_out);
                site.world.broker.acls().set(some.into_iter().collect());
                let (status, answer) = site.ask(method, &at, Some(ALICE), body).await;
                assert_eq!(status, 403, "{method} {path} without {:?}: {answer}", grants[left_out]);
            }
            site.world.broker.acls().set(grants.into_iter().collect());
            let (status, answer) = site.ask(method, &at, Some(ALICE), body).await;
            assert!(status != 401 && status != 403, "{method} {path}: {status} {answer}");
        }
        site.world.grant(&[]);
        let (status, answer) = site.ask(method, &at, Some(ROOT), body).await;
        assert!(status != 401 && status != 403, "{method} {path} as a super user: {status} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_made_inside_are_the_callers_and_lists_are_narrowed() {
    let site = Site::start().await;
    site.world.create("orders").await;
    site.world.create("secret").await;
    let names = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().expect("items").iter();
        items.map(|item| item["name"].as_str().or(item["id"].as_str()).unwrap_or_default().to_owned()).collect()
    };
    site.world.grant(&["Describe topic orders"]);
    let (_, answer) = site.ask(&Method::GET, "/v1/topics", Some(ALICE), "").await;
    assert_eq!(names(&answer), ["orders"]);
    assert_eq!(site.ask(&Method::GET, "/v1/topics/secret", Some(ALICE), "").await.0, 403);
    let message = r#"{"topic": "orders", "value": "x", "headers": {"TIMER_DELAY_SEC": "3600"}}"#;
    assert_eq!(site.ask(&Method::POST, "/v1/messages", Some(ALICE), message).await.0, 403);
    site.world.grant(&["Write topic orders"]);
    assert_eq!(site.ask(&Method::POST, "/v1/messages", Some(ALICE), message).await.0, 201);
    let (status, _) = site.ask(&Method::POST, "/v1/messages", Some(ROOT), &message.replace("orders", "secret")).await;
    assert_eq!(status, 201);

    let (_, all) = site.ask(&Method::GET, "/v1/scheduled", Some(ROOT), "").await;
    assert_eq!(names(&all).len(), 2);
    site.world.grant(&["Read topic orders"]);
    let (_, some) = site.ask(&Method::GET, "/v1/scheduled", Some(ALICE), "").await;
    assert_eq!(names(&some), ["orders:0:0"]);
}
