//! What an operator sees: the HTTP API and the command line against a whole krocket.

use std::net::SocketAddr;
use std::process::Command;

use krocket_testkit::Krocket;
use krocket_testkit::process::Process;
use krocket_testkit::promises::wire;
use krocket_testkit::session::Session;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_lag_is_what_lies_between_its_offsets_and_the_ends() {
    let server = Krocket::start().await;
    let http = server.http;
    for _ in 0..3 {
        krocket(http, &["message", "send", "orders", "x"]).await;
    }
    let mut session = Session::connect(server.kafka).await.expect("connects");
    wire::commit(&mut session, "billing", "orders", 0, 1).await.expect("committed");

    let groups = json_of(http, &["group", "list"]).await;
    assert_eq!(groups["items"][0]["group"], "billing");
    let group = json_of(http, &["group", "show", "billing"]).await;
    assert_eq!((&group["lag"], &group["members"]), (&json!(2), &json!([])));
    let expected = json!([{
        "topic": "orders", "partition": 0, "committed": 1, "end": 3, "lag": 2, "members": [],
    }]);
    assert_eq!(group["partitions"], expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_group_is_shown_with_its_members_and_what_they_have_not_done_with() {
    use kafka_protocol::messages::alter_share_group_offsets_request::{
        AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
    };
    use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, GroupId, ShareGroupHeartbeatRequest, TopicName};
    use kafka_protocol::protocol::StrBytes;

    let server = Krocket::start().await;
    let http = server.http;
    for _ in 0..3 {
        krocket(http, &["message", "send", "orders", "x"]).await;
    }
    let mut client = server.client().await;
    let group = GroupId(StrBytes::from_static_str("sharers"));
    let orders = TopicName(StrBytes::from_static_str("orders"));
    let start = AlterShareGroupOffsetsRequestPartition::default().with_partition_index(0).with_start_offset(1);
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(orders.clone())
        .with_partitions(vec![start.clone(), start.with_partition_index(9)]);
    let request = AlterShareGroupOffsetsRequest::default().with_group_id(group.clone()).with_topics(vec![topic]);
    let altered = client.call(0, &request).await;
    let codes: Vec<i16> = altered.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!((altered.error_code, codes), (0, vec![0, 3]), "there is no partition 9");
    for member in ["a", "b"] {
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(group.clone())
            .with_member_id(StrBytes::from_static_str(member))
            .with_member_epoch(0)
            .with_subscribed_topic_names(Some(vec![orders.clone()]));
        assert_eq!(client.call(1, &request).await.error_code, 0);
    }

    let groups = json_of(http, &["group", "list"]).await;
    assert_eq!(groups["items"][0], json!({ "group": "sharers", "type": "share", "state": "Stable" }));
    let group = json_of(http, &["group", "show", "sharers"]).await;
    assert_eq!((&group["lag"], &group["members"][1]["assigned"]), (&json!(2), &json!(["orders:0"])));
    let expected = json!([{
        "topic": "orders", "partition": 0, "committed": 1, "end": 3, "lag": 2, "members": ["a", "b"],
    }]);
    assert_eq!(group["partitions"], expected);
    server.stop().await;
}

#[test]
fn a_changed_file_is_taken_over_while_krocket_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("krocket.toml");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    std::fs::write(&file, "").expect("written");
    let data = folder.path().join("data");
    let mut process = Process::start(
        KROCKET,
        &["--config", &text(&file), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", &text(&data)],
    );
    let (_, http) = process.wait_until_ready();
    let config = || -> Value {
        let mut response = ureq::get(format!("http://{http}/v1/config")).call().expect("answers");
        response.body_mut().read_json().expect("JSON")
    };
    assert_eq!(config()["config"]["rules"], json!([]));

    std::fs::write(&file, "[[rules]]\ntopics = [\"a\"]\nhalf = false\n[limits]\nconnections = 7\n").expect("written");
    process.wait_for_line("the configuration was read again");
    process.wait_for_line("changed sections need a restart of krocket sections=\"limits\"");
    let taken = config();
    assert_eq!(taken["config"]["rules"][0]["half"], json!(false));
    assert_eq!((&taken["reloads_ok"], &taken["restart_needed"]), (&json!(1), &json!(["limits"])));

    std::fs::write(&file, "[[views]]\nname = \"v\"\nsource = \"s\"\nfilter = \"a = \"\n").expect("written");
    process.signal(rustix::process::Signal::HUP);
    process.wait_for_line("the changed configuration is refused and the rules stay as they were");
    let refused = config();
    assert_eq!(refused["config"]["rules"], taken["config"]["rules"]);
    let error = refused["error"].as_str().expect("an error");
    assert!(error.contains("krocket.toml:4:") && error.ends_with('^'), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_retry_is_listed_by_page() {
    let server = Krocket::start().await;
    let http = server.http;
    let (code, _, stderr) = krocket(http, &["retry", "list", "billing"]).await;
    assert_eq!((code, stderr.as_str()), (Some(1), "krocket: group \"billing\" has no retries\n"));

    for value in ["a", "b", "c"] {
        json_of(http, &["message", "send", "orders", value]).await;
    }
    for (origin, times) in [("orders:0:0", "0"), ("orders:0:1", "15"), ("orders:0:2", "16")] {
        let (origin, times) = (format!("ORIGIN_MESSAGE_ID={origin}"), format!("RECONSUME_TIMES={times}"));
        let nack = ["message", "send", "retry.billing", "x", "-H", &origin, "-H", &times, "-H", "ERROR=no money"];
        json_of(http, &nack).await;
    }
    let one = json_of(http, &["retry", "list", "billing", "--limit", "1"]).await;
    let next = one["next"].as_str().expect("there is more").to_owned();
    let two = json_of(http, &["retry", "list", "billing", "--limit", "1", "--next", &next]).await;
    for (page, id, origin, times) in
        [(&one, "retry.billing:0:0", "orders:0:0", "1"), (&two, "retry.billing:0:1", "orders:0:1", "16")]
    {
        let item = &page["items"][0];
        assert_eq!((&item["id"], &item["origin_message_id"]), (&json!(id), &json!(origin)));
        assert_eq!((&item["reconsume_times"], &item["real_topic"]), (&json!(times), &json!("orders")));
        assert_eq!((&item["reason"], &item["dead"]), (&json!("no money"), &json!(false)));
        assert!(item["due_ms"].as_i64().is_some_and(|due| due > 0), "{item}");
    }
    // The third had no retry left.
    let all = json_of(http, &["retry", "list", "billing"]).await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2), "{all}");
    server.stop().await;
}

#[test]
fn a_nearly_full_disk_refuses_producers_and_serves_everything_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data = data.to_str().expect("text");
    let run = |http: &str, arguments: &[&str]| {
        krocket_testkit::process::run(KROCKET, &[arguments, &["--http", http]].concat())
    };
    let mut server = Process::serve(KROCKET, std::path::Path::new(data));
    let (_, http) = server.wait_until_ready();
    assert_eq!(run(&http.to_string(), &["message", "send", "orders", "there was room"]).0, Some(0));
    server.signal(rustix::process::Signal::TERM);
    server.wait();

    let config = folder.path().join("krocket.toml");
    std::fs::write(&config, "[log]\nmin_free_bytes = \"1000000GiB\"\n").expect("written");
    let config = config.to_str().expect("text");
    let arguments = ["--config", config, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data];
    let mut server = Process::start(KROCKET, &[&["serve"], &arguments[..]].concat());
    let (_, http) = server.wait_until_ready();
    let http = http.to_string();
    let (code, _, stderr) = run(&http, &["message", "send", "orders", "there is none"]);
    assert!(code == Some(1) && stderr.contains("log.min_free_bytes"), "{stderr}");
    let (code, stdout, _) = run(&http, &["message", "get", "orders:0:0"]);
    assert!(code == Some(0) && stdout.contains("there was room"), "{stdout}");
    let metrics = ureq::get(format!("http://{http}/metrics")).call().expect("answers").into_body().read_to_string();
    assert!(metrics.expect("text").contains("krocket_disk_low 1"));
}
