//! Requests as traces: a collector of OpenTelemetry's protocol beside the real program.
#![cfg(feature = "otlp")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest, SaslAuthenticateRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_testkit::{Client, Process};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use parking_lot::Mutex;
use prost::Message;
use rustix::process::Signal;
use tempfile::tempdir;
use tokio::net::TcpListener;

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");

/// What a collector was sent.
type Sent = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// Takes traces at this address.
async fn collect(socket: TcpListener) -> Sent {
    let sent = Sent::default();
    let took = sent.clone();
    let take = move |body: Bytes| {
        let took = took.clone();
        async move {
            match ExportTraceServiceRequest::decode(body) {
                Ok(request) => took.lock().push(request),
                Err(_) => return StatusCode::BAD_REQUEST,
            }
            StatusCode::OK
        }
    };
    tokio::spawn(async move { axum::serve(socket, Router::new().route("/v1/traces", post(take))).await });
    sent
}

async fn free() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

fn start(folder: &Path, collector: SocketAddr) -> Process {
    let file = folder.join("krocket.toml");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\ndata_dir = {:?}\n\
         [traces]\nendpoint = \"http://{collector}\"\nsample = 1.0\nservice_name = \"shop\"\n",
        folder.join("data")
    );
    std::fs::write(&file, config).expect("written");
    Process::start(KROCKET, &["serve", "--config", file.to_str().expect("text")])
}

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// What a client does in a day, a wrong password included.
async fn use_it(kafka: SocketAddr) {
    let mut client = Client::connect(kafka).await;
    let orders = CreatableTopic::default().with_name(topic("orders")).with_num_partitions(1).with_replication_factor(1);
    client.call(5, &CreateTopicsRequest::default().with_topics(vec![orders])).await;
    let mut batch = BatchBuilder::new(0, 1_000);
    batch.push(0, 1_000, None, Some(b"hello"), &[]);
    let batch = batch.finish(LastOffset::Trim).expect("no codec").expect("a record");
    let data = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic("orders")).with_partition_data(vec![data]);
    let produce = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
    let produced = client.call(9, &produce).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let partition = FetchPartition::default().with_fetch_offset(1).with_partition_max_bytes(1 << 20);
    let fetch = FetchTopic::default().with_topic(topic("orders")).with_partitions(vec![partition]);
    let fetch = FetchRequest::default()
        .with_max_wait_ms(20)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![fetch]);
    client.call(12, &fetch).await;
    let token = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0user\0hunter2"));
    client.call(0, &token).await;
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_trace_with_its_steps_and_without_its_secrets() {
    let folder = tempdir().expect("a temporary folder");
    let (socket, address) = free().await;
    let sent = collect(socket).await;
    let mut process = start(folder.path(), address);
    let (kafka, _) = process.wait_until_ready();
    use_it(kafka).await;
    process.signal(Signal::TERM);
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
    // Lines of the log have nothing of the spans that they are written in.
    assert!(!log.contains("messaging.client.id"), "{log}");

    let sent = sent.lock();
    assert!(!format!("{sent:?}").contains("hunter2"));
    let groups: Vec<_> = sent.iter().flat_map(|request| &request.resource_spans).collect();
    let resource = &groups[0].resource.as_ref().expect("a resource").attributes;
    assert_eq!(text(resource, "service.name").as_deref(), Some("shop"));
    assert_eq!(text(resource, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let spans: Vec<&Span> = groups.iter().flat_map(|group| &group.scope_spans).flat_map(|scope| &scope.spans).collect();
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|span| (&*span.span_id, *span)).collect();
    // A step's ancestors, itself first, to the root.
    let path = |span: &Span| {
        let mut path = vec![span.name.clone()];
        let mut at = span;
        while let Some(parent) = by_id.get(&*at.parent_span_id) {
            assert_eq!(parent.trace_id, at.trace_id);
            assert!(parent.start_time_unix_nano <= at.start_time_unix_nano, "{path:?}");
            assert!(parent.end_time_unix_nano >= at.end_time_unix_nano, "{path:?}");
            path.push(parent.name.clone());
            at = parent;
        }
        assert!(at.parent_span_id.is_empty(), "{path:?} has lost its root");
        path
    };
    let paths: Vec<Vec<String>> = spans.iter().map(|span| path(span)).collect();
    let ends_in = |step: &str, root: &str| {
        paths.iter().find(|path| path[0] == step && path.last().is_some_and(|it| it == root)).cloned()
    };
    let append = ends_in("append", "Produce").unwrap_or_else(|| panic!("{paths:?}"));
    assert_eq!(append[..3], ["append", "broker", "lookup"], "from the disk up through the features");
    assert!(append.contains(&"schedule".to_owned()), "{append:?}");
    assert!(ends_in("wait", "Fetch").is_some(), "{paths:?}");

    let root =
        |name: &str| *spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {paths:?}"));
    let produce = root("Produce");
    assert_eq!(produce.kind(), SpanKind::Server);
    for (key, value) in [
        ("messaging.system", "kafka"),
        ("messaging.client.id", "testkit"),
        ("network.peer.address", "127.0.0.1"),
        ("user.name", "User:ANONYMOUS"),
        ("krocket.api.version", "9"),
    ] {
        assert_eq!(text(&produce.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert!(produce.status.as_ref().is_none_or(|status| status.code() != SpanStatus::Error));
    let refused = root("SaslAuthenticate");
    assert_eq!(refused.status.as_ref().map(|status| status.code()), Some(SpanStatus::Error));
    assert_eq!(text(&refused.attributes, "error.type").as_deref(), Some("IllegalSaslState"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_traces_and_nothing_else() {
    let folder = tempdir().expect("a temporary folder");
    let (socket, address) = free().await;
    drop(socket);
    let mut process = start(folder.path(), address);
    let (kafka, http) = process.wait_until_ready();
    use_it(kafka).await;
    let line = process.wait_for_line("the collector does not take traces; they are lost");
    assert!(line.contains(&format!("http://{address}/v1/traces")) && line.contains("why="), "{line}");

    let sent = collect(TcpListener::bind(address).await.expect("it was ours")).await;
    use_it(kafka).await;
    process.wait_for_line("the collector takes traces again");
    assert!(!sent.lock().is_empty());
    let (_, metrics) = krocket_testkit::http::get(http, "/metrics").await;
    for result in ["ok", "failed"] {
        let series = format!("krocket_trace_exports_total{{result=\"{result}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok());
        assert!(count.is_some_and(|count| count >= 1.0), "{series}{count:?}");
    }
    process.signal(Signal::TERM);
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
    assert_eq!(log.matches("does not take traces").count(), 1, "{log}");
}
