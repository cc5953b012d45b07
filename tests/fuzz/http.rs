//! Any bytes sent to the HTTP port: an answer that is not the server's fault, or a closed connection.

use std::time::Duration;

use krocket_testkit::{Krocket, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fuzz;

const QUICK: u64 = 1500;

const VALID: &[(&str, &str, &str)] = &[
    ("GET", "/metrics", ""),
    ("GET", "/readyz", ""),
    ("GET", "/v1/openapi.json", ""),
    ("GET", "/v1/topics?limit=10", ""),
    ("GET", "/v1/topics/orders", ""),
    ("GET", "/v1/groups/billing", ""),
    ("GET", "/v1/messages?topic=orders&partition=0&limit=3", ""),
    ("GET", "/v1/messages/orders:0:0/life", ""),
    ("POST", "/v1/messages", r#"{"topic":"orders","key":"k","value":"v","headers":[{"name":"TAGS","value":"paid"}]}"#),
    ("GET", "/v1/scheduled?topic=orders", ""),
    ("POST", "/v1/scheduled/orders:0:0/reschedule", r#"{"deliver_ms":1900000000000}"#),
    ("DELETE", "/v1/scheduled/orders:0:0", ""),
    ("POST", "/v1/transactions/orders:0:0/commit", ""),
    ("GET", "/v1/retry/billing?limit=5", ""),
    ("GET", "/v1/dlq/billing", ""),
    ("POST", "/v1/dlq/billing/redrive", r#"{"rate":10,"filter":"a = 1"}"#),
    ("POST", "/v1/views", r#"{"name":"big","source":"orders","filter":"amount > 3"}"#),
    ("POST", "/v1/views/check", r#"{"filter":"amount >"}"#),
    ("GET", "/v1/overview", ""),
    ("GET", "/v1/config", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_get_an_answer_that_is_not_the_servers_fault() {
    let krocket = Krocket::start().await;
    let request = |(method, path, body): &(&str, &str, &str)| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let len = body.len();
        format!("{method} {path} HTTP/1.1\r\nHost: krocket\r\nConnection: close\r\n{kind}Content-Length: {len}\r\n\r\n{body}")
            .into_bytes()
    };
    let mut fuzz = Fuzz::new("http", VALID.iter().map(request).collect(), QUICK);
    let (mut answered, mut closed) = (0, 0);
    while let Some(input) = fuzz.next() {
        match ask(&krocket, &input).await {
            Some(500) => panic!("500: {}", fuzz.keep(&input).display()),
            Some(_) => answered += 1,
            None => closed += 1,
        }
    }
    assert_eq!(http::get(krocket.http, "/livez").await.0, 200);
    assert!(answered > VALID.len(), "{answered} answered, {closed} closed");
    krocket.stop().await;
    fuzz.report(&format!("{answered} answered, {closed} closed, none with 500"));
}

/// The status; `None` where none came before the connection ended or a moment was over.
async fn ask(krocket: &Krocket, input: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(krocket.http).await.expect("it accepts");
    // It may close before it has read all.
    let _ = stream.write_all(input).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "a client that said its last word is left hanging: {:?}", String::from_utf8_lossy(input));
    let text = String::from_utf8_lossy(&answer);
    text.split_whitespace().nth(1).and_then(|status| status.parse().ok())
}
