//! What an operator sees: the HTTP API and the command line against a whole krocket.

use std::net::SocketAddr;
use std::process::Command;

use krocket_testkit::Krocket;
use serde_json::{Value, json};

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");

/// Runs the command line against this server: exit code, stdout, stderr.
async fn krocket(http: SocketAddr, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(KROCKET);
    command.args(arguments).env("KROCKET_HTTP", http.to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn json_of(http: SocketAddr, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let (code, stdout, stderr) = krocket(http, &arguments).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    serde_json::from_str(&stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_sent_and_its_topic_shown() {
    let server = Krocket::start().await;
    let http = server.http;
    let (code, stdout, stderr) =
        krocket(http, &["message", "send", "orders", "hello", "--key", "k", "--tag", "paid", "-H", "a=b=c"]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "orders:0:0\n", ""));
    let stored = json_of(http, &["message", "send", "orders", "again"]).await;
    assert_eq!(stored, json!({"id": "orders:0:1", "topic": "orders", "partition": 0, "offset": 1}));

    let topics = json_of(http, &["topic", "list"]).await;
    assert_eq!(topics["items"][0]["name"], "orders");
    let topic = json_of(http, &["topic", "show", "orders"]).await;
    assert_eq!(topic["partitions"], json!([{"partition": 0, "log_start": 0, "high_watermark": 2}]));
    let (code, stdout, _) = krocket(http, &["topic", "list"]).await;
    let words: Vec<&str> = stdout.split_whitespace().take(5).collect();
    assert_eq!((code, words), (Some(0), vec!["NAME", "PARTITIONS", "ID", "orders", "1"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_said_in_a_sentence() {
    let server = Krocket::start().await;
    let http = server.http;
    for (arguments, sentence) in [
        (vec!["topic", "show", "nothing"], "krocket: topic \"nothing\": UnknownTopicOrPartition\n"),
        (vec!["group", "show", "a/b ü"], "krocket: there is no group \"a/b ü\"\n"),
        (vec!["message", "send", "orders", "x", "--partition", "7"], "krocket: orders:7: "),
        (vec!["message", "send", "orders", "x", "-H", "nonsense"], "krocket: \"nonsense\" is not a header"),
        (vec!["dlq", "purge", "g"], "krocket: say which dead letters"),
        (vec!["topic", "list", "--limit", "0"], "krocket: `limit` is 0; it must be from 1 to 1000\n"),
    ] {
        let (code, stdout, stderr) = krocket(http, &arguments).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr.starts_with(sentence), "{arguments:?}: {stderr}");
    }
    server.stop().await;
    let (code, _, stderr) = krocket(http, &["topic", "list"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with(&format!("krocket: krocket cannot be reached at {http}: ")), "{stderr}");
}
