//! Who asks over HTTP, and whether they may: the same ACLs as on Kafka's wire.
//!
//! Endpoints that ask in Kafka requests carry their caller with them, so the authorizer decides; for the others
//! [`routes`] has a row each.

pub mod routes;
pub mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use krocket_config::rules::Live;
use krocket_features::http::Problem;
use krocket_proxy::acl::{Ask, Authorizer};
use krocket_proxy::sasl::{Basic, NotLetIn};
use krocket_stack::security::{Operation, ResourceType};
use krocket_stack::{Connection, Principal};
use serde_json::Value;

use super::kafka::CALLER;
use routes::{Check, Rule, Unknown};
use tokens::Tokens;

/// The largest answer of a list.
const MAX_LIST: usize = 64 << 20;

/// What decides about requests to /v1.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    /// Without it every known caller may do everything.
    authorizer: Option<Authorizer>,
    tokens: Arc<Tokens>,
    passwords: Basic,
    rules: Live,
}

impl Gate {
    /// For those with these tokens and passwords, by the authorizer's decisions where there is one.
    pub fn new(authorizer: Option<Authorizer>, tokens: Arc<Tokens>, passwords: Basic, rules: Live) -> Self {
        Gate(Arc::new(Inner { authorizer, tokens, passwords, rules }))
    }

    /// Whom the request's credentials are of.
    async fn principal(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Principal, Response> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(unknown(
                "who is asking? Send `Authorization: Bearer <token>` or a name and a password (krocket --token, --user)",
            ));
        };
        let (scheme, secret) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
        let secret = secret.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => self.0.tokens.find(secret).ok_or_else(|| unknown("the token is not known")),
            "basic" => self.0.passwords.check(peer, secret).await.map_err(|error| match error {
                NotLetIn::TooMany => {
                    let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()).into_response();
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                    response
                }
                _ => unknown(&error.to_string()),
            }),
            _ => Err(unknown("`Authorization: Bearer <token>` or `Authorization: Basic <name:password>` is expected")),
        }
    }
}

fn unknown(why: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, why).into_response();
    for challenge in ["Basic realm=\"krocket\", charset=\"UTF-8\"", "Bearer realm=\"krocket\""] {
        response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// The middleware round /v1.
pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let peer = peer.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let principal = match gate.principal(request.headers(), peer.ip()).await {
        Ok(principal) => principal,
        Err(response) => return response,
    };
    let connection = Arc::new(Connection {
        // Not an internal connection: layers do for these requests what they do for clients'.
        id: u64::MAX,
        peer,
        listener: "http".to_owned(),
        software: OnceLock::new(),
        authenticated: OnceLock::from(principal),
    });
    let work = gate.decide(&connection, request, next);
    CALLER.scope(connection.clone(), work).await.unwrap_or_else(IntoResponse::into_response)
}

impl Gate {
    async fn decide(&self, connection: &Connection, request: Request, next: Next) -> Result<Response, Problem> {
        let Some(authorizer) = &self.0.authorizer else { return Ok(next.run(request).await) };
        let (mut parts, body) = request.into_parts();
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
        let path = parts.uri.path();
        let rule = match routes::find(&method, path) {
            Ok(rule) => rule,
            Err(Unknown::Method) => {
                let message = format!("{path} does not know {method}");
                return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, message));
            }
            // There is no such path, and that is the answer.
            Err(Unknown::Path) => {
                return Err(Problem::not_found(format!("there is no {path}; /v1/openapi.json lists what there is")));
            }
        };
        let params = RawPathParams::from_request_parts(&mut parts, &()).await.ok();
        let param = params.iter().flatten().next().map(|(_, value)| value.to_owned()).unwrap_or_default();
        let ask = authorizer.ask(connection);
        let (check, request) = match rule {
            Rule::Known => return Ok(next.run(Request::from_parts(parts, body)).await),
            Rule::List(list) => {
                let response = next.run(Request::from_parts(parts, body)).await;
                return Ok(narrowed(response, |item| list.shows(item, &ask)).await);
            }
            Rule::NewView => {
                let bytes = axum::body::to_bytes(body, super::MAX_BODY).await;
                let bytes = bytes.map_err(|error| Problem::bad_request(error.to_string()))?;
                let view: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let text = |field: &str| view.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
                if !ask.creates(&text("name")) {
                    return Err(forbidden(&ask, Operation::Create, ResourceType::Topic, &text("name")));
                }
                let check = Check { operation: Operation::Describe, kind: ResourceType::Topic, name: text("source") };
                (vec![check], Request::from_parts(parts, Body::from(bytes)))
            }
            Rule::All(checks) => {
                let prefixes = self.0.rules.get().prefixes.clone();
                let checks = checks.iter().map(|(what, operation)| what.check(*operation, &param, &prefixes));
                (checks.collect::<Result<_, _>>()?, Request::from_parts(parts, body))
            }
        };
        for Check { operation, kind, name } in check {
            if !ask.may(operation, kind, &name) {
                return Err(forbidden(&ask, operation, kind, &name));
            }
        }
        Ok(next.run(request).await)
    }
}

fn forbidden(ask: &Ask<'_>, operation: Operation, kind: ResourceType, name: &str) -> Problem {
    let message = format!("{} may not {operation:?} {kind:?} \"{name}\"", ask.principal());
    Problem::new(StatusCode::FORBIDDEN, message)
}

/// A list without the items that may not be seen. A page may become shorter than its limit; `next` goes on all the same.
async fn narrowed(response: Response, shows: impl Fn(&Value) -> bool) -> Response {
    if !response.status().is_success() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let unreadable = || Problem::unavailable("the list cannot be narrowed to what may be seen").into_response();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_LIST).await else { return unreadable() };
    let Ok(mut list) = serde_json::from_slice::<Value>(&bytes) else { return unreadable() };
    let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) else { return unreadable() };
    items.retain(shows);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(list.to_string()))
}
