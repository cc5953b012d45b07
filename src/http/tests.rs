use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::handler::Handler as _;
use axum::http::{Request, Response as HttpResponse};
use axum::routing::MethodRouter;
use krocket_config::Config;
use krocket_stack::{BoxFuture, Error, Handler, Request as KafkaRequest, Response};
use serde_json::Value;

use super::kafka::Kafka;
use crate::reload::Current;
use crate::stack;

/// No endpoint of these tests gets as far as Kafka.
struct Nobody;

impl Handler for Nobody {
    fn call(&self, _: KafkaRequest) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async { Err(Error::Close("nobody answers".to_owned())) })
    }
}

async fn endpoints() -> (MethodRouter, Value) {
    let (features, _folder) = stack::testing::features().await;
    let current = Current::fixed(&Config::default()).expect("the defaults are valid");
    let routes = super::openapi::routes(Kafka::new(Arc::new(Nobody)), current, features.routes);
    (super::v1(routes.0, None), serde_json::to_value(routes.1).expect("JSON"))
}

async fn ask(endpoints: &MethodRouter, method: &str, path: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    let response: HttpResponse<Body> = endpoints.clone().call(request, ()).await;
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let value = serde_json::from_slice(&bytes);
    (status, value.unwrap_or_else(|_| panic!("{method} {path} is not JSON: {}", String::from_utf8_lossy(&bytes))))
}

#[tokio::test]
async fn every_error_is_json() {
    let (endpoints, _) = endpoints().await;
    for (method, path, status, sentence) in [
        ("GET", "/v1", 404, "there is no /v1"),
        ("GET", "/v1/nothing", 404, "/v1/openapi.json lists what there is"),
        ("POST", "/v1/topics", 405, "/v1/topics does not know POST"),
        ("GET", "/v1/topics?limit=many", 400, "limit"),
        ("GET", "/v1/topics", 503, "nobody answers"),
        ("POST", "/v1/messages", 415, "Content-Type"),
    ] {
        let (found, body) = ask(&endpoints, method, path).await;
        let error = body["error"].as_str().unwrap_or_default();
        assert!(found == status && error.contains(sentence), "{method} {path}: {found} {body}");
    }
}

#[tokio::test]
async fn the_document_is_what_is_served() {
    let (endpoints, document) = endpoints().await;
    assert_eq!(ask(&endpoints, "GET", "/v1/openapi.json").await, (200, document.clone()));
    let paths = document["paths"].as_object().expect("paths");
    let mut served = 0;
    for (path, item) in paths {
        assert!(path.starts_with("/v1/"), "{path}");
        let concrete = path.replace(['{', '}'], "");
        let documented: BTreeSet<String> =
            item.as_object().expect("an item").keys().map(|m| m.to_uppercase()).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let (status, _) = ask(&endpoints, method, &concrete).await;
            assert_eq!(status != 405, documented.contains(method), "{method} {path}: {status}");
            served += usize::from(status != 405);
        }
    }
    assert!(served >= stack::testing::ENDPOINTS, "{served} endpoints");
}

/// What makes an OpenAPI 3.1 document: required fields, unique operation ids, every reference and path parameter defined.
#[tokio::test]
async fn the_document_is_whole() {
    let (_, document) = endpoints().await;
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    for field in ["title", "version"] {
        assert!(!document["info"][field].as_str().expect("text").is_empty(), "{field}");
    }
    let references = walk(&document, &document, "#");
    assert!(references > 5, "{references} references");

    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            assert!(ids.insert(format!("{id} {}", operation["tags"][0])), "{id} is there twice");
            assert!(!operation["responses"].as_object().expect("responses").is_empty(), "{method} {path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let named: BTreeSet<&str> = in_path.filter_map(|parameter| parameter["name"].as_str()).collect();
            let wanted: BTreeSet<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            assert_eq!(named, wanted, "{method} {path}");
        }
    }
}

fn walk(document: &Value, value: &Value, at: &str) -> usize {
    match value {
        Value::Object(fields) => {
            let mut count = 0;
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{at}: {reference} is elsewhere"));
                assert!(document.pointer(pointer).is_some(), "{at}: {reference} leads nowhere");
                count += 1;
            }
            count + fields.iter().map(|(key, value)| walk(document, value, &format!("{at}/{key}"))).sum::<usize>()
        }
        Value::Array(values) => {
            values.iter().enumerate().map(|(index, value)| walk(document, value, &format!("{at}/{index}"))).sum()
        }
        _ => 0,
    }
}
