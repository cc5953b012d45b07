//! One connection's rules: order, pipelining, cancelling, panics, back-pressure. The backend is made for each test.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, HeartbeatRequest, HeartbeatResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::ApiKey;
use krocket_protocol::chunk::{Chunk, FileSlice};
use krocket_protocol::fetch::{FetchPartition, FetchResponse, FetchTopic};
use krocket_proxy::{Limits, Listener};
use krocket_stack::{Body, BoxFuture, Error, Handler, Request, Response};
use krocket_testkit::{Client, soon};
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    drain: CancellationToken,
    task: JoinHandle<bool>,
}

fn serve(handler: Arc<dyn Handler>, limits: Limits) -> Served {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "test").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let drain = CancellationToken::new();
    let task = tokio::spawn(listener.run(handler, limits, drain.clone(), Duration::from_secs(10)));
    Served { address, drain, task }
}

impl Served {
    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// True when everything had finished.
    async fn stop(self) -> bool {
        self.drain.cancel();
        soon("draining", self.task).await.expect("no panic")
    }
}

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("testkit"))
        .with_client_software_version(StrBytes::from_static_str("1"))
}

/// A handler from a closure.
struct Answer<F>(F);

impl<F> Handler for Answer<F>
where
    F: Fn(Request) -> BoxFuture<'static, Result<Response, Error>> + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        (self.0)(request)
    }
}

fn answer(
    function: impl Fn(Request) -> BoxFuture<'static, Result<Response, Error>> + Send + Sync + 'static,
) -> Arc<dyn Handler> {
    Arc::new(Answer(function))
}

/// Says that it was dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn produce_requests_run_together_start_in_order_and_are_answered_in_order() {
    const REQUESTS: i32 = 40;
    let started = Arc::new(Mutex::new(Vec::new()));
    let (open, gate) = watch::channel(0);
    let (together, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = answer({
        let (started, most) = (started.clone(), most.clone());
        move |request| {
            let (started, together, most, mut gate) = (started.clone(), together.clone(), most.clone(), gate.clone());
            Box::pin(async move {
                let (_, message) = request.into_message::<ProduceRequest>()?;
                let number = message.timeout_ms;
                started.lock().expect("not poisoned").push(number);
                most.fetch_max(together.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Later requests are ready earlier.
                gate.wait_for(|opened| REQUESTS - number <= *opened).await.expect("the test lives");
                together.fetch_sub(1, Ordering::SeqCst);
                Ok(Response::new(ProduceResponse::default().with_throttle_time_ms(number)))
            })
        }
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    for number in 0..REQUESTS {
        client.send_request(9, &ProduceRequest::default().with_timeout_ms(number)).await;
    }
    soon("sixteen at the same time", async {
        while started.lock().expect("not poisoned").len() < 16 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for opened in 1..=REQUESTS {
        open.send(opened).expect("the handler lives");
        tokio::task::yield_now().await;
    }
    for number in 0..REQUESTS {
        let response = client.receive_answer::<ProduceRequest>(9, number + 1).await;
        assert_eq!(response.throttle_time_ms, number);
    }
    assert_eq!(*started.lock().expect("not poisoned"), (0..REQUESTS).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), Limits::default().pipelined_produces);
    assert!(served.stop().await);
}

#[tokio::test]
async fn other_requests_run_alone() {
    let running = Arc::new(Mutex::new(HashMap::<ApiKey, usize>::new()));
    let handler = answer(move |request| {
        let running = running.clone();
        Box::pin(async move {
            let api = request.head.api;
            {
                let mut running = running.lock().expect("not poisoned");
                let others =
                    running.iter().any(|(other, count)| *count > 0 && (api != ApiKey::Produce || *other != api));
                if others {
                    return Err(Error::Close(format!("{api:?} was started beside {running:?}")));
                }
                *running.entry(api).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            *running.lock().expect("not poisoned").entry(api).or_default() -= 1;
            Ok(match api {
                ApiKey::Produce => Response::new(ProduceResponse::default()),
                _ => Response::new(HeartbeatResponse::default()),
            })
        })
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    let produce = ProduceRequest::default();
    let heartbeat = HeartbeatRequest::default();
    for round in 0..5 {
        let ids = [
            client.send_request(4, &heartbeat).await,
            client.send_request(9, &produce).await,
            client.send_request(9, &produce).await,
            client.send_request(4, &heartbeat).await,
            client.send_request(4, &heartbeat).await,
        ];
        client.receive_answer::<HeartbeatRequest>(4, ids[0]).await;
        client.receive_answer::<ProduceRequest>(9, ids[1]).await;
        client.receive_answer::<ProduceRequest>(9, ids[2]).await;
        client.receive_answer::<HeartbeatRequest>(4, ids[3]).await;
        client.receive_answer::<HeartbeatRequest>(4, ids[4]).await;
        assert!(round < 5);
    }
    assert!(served.stop().await);
}

#[tokio::test]
async fn acks_0_leaves_nothing() {
    let handler = answer(|_| Box::pin(async { Ok(Response::None) }));
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    for _ in 0..3 {
        client.send_request(9, &ProduceRequest::default().with_acks(0)).await;
    }
    // The next frame that comes answers this, and nothing else.
    assert_eq!(client.call(3, &api_versions()).await.error_code, 0);
    assert!(served.stop().await);
}

#[tokio::test]
async fn bodies_reach_the_handler_undecoded() {
    let handler = answer(|request| {
        Box::pin(async move {
            match &request.body {
                Body::Raw(_) => Ok(Response::new(HeartbeatResponse::default())),
                _ => Err(Error::Close("decoded".to_owned())),
            }
        })
    });
    let served = serve(handler, Limits::default());
    served.client().await.call(4, &HeartbeatRequest::default()).await;
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_long_poll_ends_when_its_client_leaves() {
    let (events, mut seen) = mpsc::unbounded_channel();
    let handler = answer(move |_| {
        let guard = Dropped(events.clone());
        Box::pin(async move {
            let _ = guard.0.send("polling");
            std::future::pending().await
        })
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    client.send_request(12, &FetchRequest::default()).await;
    // A request behind the poll must not hide the close.
    client.send_request(12, &FetchRequest::default()).await;
    assert_eq!(soon("the poll", seen.recv()).await, Some("polling"));

    drop(client);

    assert_eq!(soon("its end", seen.recv()).await, Some("dropped"));
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_change_is_finished_though_its_client_left() {
    let (events, mut seen) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let handler = answer({
        let gate = gate.clone();
        move |_| {
            let (events, gate) = (events.clone(), gate.clone());
            Box::pin(async move {
                let _ = events.send("began");
                let _ = gate.acquire().await;
                let _ = events.send("finished");
                Ok(Response::new(HeartbeatResponse::default()))
            })
        }
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    client.send_request(4, &HeartbeatRequest::default()).await;
    client.send_request(4, &HeartbeatRequest::default()).await;
    assert_eq!(soon("the first", seen.recv()).await, Some("began"));

    drop(client);
    gate.add_permits(10);

    for expected in ["finished", "began", "finished"] {
        assert_eq!(soon(expected, seen.recv()).await, Some(expected));
    }
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_no_other() {
    let handler = answer(|request| match request.head.version {
        0 => panic!("before the future, on purpose"),
        1 => Box::pin(async { panic!("in the future, on purpose") }),
        2 => Box::pin(async {
            tokio::task::yield_now().await;
            panic!("after a wait, on purpose")
        }),
        _ => Box::pin(async { Ok(Response::new(HeartbeatResponse::default())) }),
    });
    let panics = || krocket_proxy::metrics::get().panics.get();
    let before = panics();
    let served = serve(handler, Limits::default());
    let mut bystander = served.client().await;
    for version in 0..3 {
        let mut client = served.client().await;
        client.send_request(version, &HeartbeatRequest::default()).await;
        client.expect_close().await;
        bystander.call(4, &HeartbeatRequest::default()).await;
    }
    assert_eq!(panics() - before, 3);
    assert!(served.stop().await);
}

#[tokio::test]
async fn an_error_closes_after_what_was_answered_before_it() {
    let handler = answer(|request| {
        Box::pin(async move {
            let (_, message) = request.into_message::<ProduceRequest>()?;
            match message.timeout_ms {
                0 => Ok(Response::new(ProduceResponse::default())),
                _ => Err(Error::Close("on purpose".to_owned())),
            }
        })
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    client.send_request(9, &ProduceRequest::default().with_timeout_ms(0)).await;
    client.send_request(9, &ProduceRequest::default().with_timeout_ms(1)).await;
    client.receive_answer::<ProduceRequest>(9, 1).await;
    client.expect_close().await;
    assert!(served.stop().await);
}

/// A Fetch response of chunks in memory and in a file, and the bytes it stands for.
fn records(size: usize) -> (FetchResponse, Vec<u8>) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let content: Vec<u8> = (0..size as u32).flat_map(|word| word.to_le_bytes()).collect();
    file.write_all(&content).expect("written");
    let file = Arc::new(file);
    let slice = |offset: usize, len: usize| Chunk::File(FileSlice { file: file.clone(), offset: offset as u64, len });
    let inline = Bytes::from_static(b"a chunk in memory");
    let records = vec![slice(8, 100), Chunk::Bytes(inline.clone()), slice(0, content.len()), slice(1, 1)];
    let mut expected = content[8..108].to_vec();
    expected.extend_from_slice(&inline);
    expected.extend_from_slice(&content);
    expected.push(content[1]);
    let mut partition = FetchPartition::error(0, 0);
    partition.records = records;
    let topic = FetchTopic { partitions: vec![partition], ..FetchTopic::default() };
    (FetchResponse { topics: vec![topic], ..FetchResponse::default() }, expected)
}

#[tokio::test]
async fn file_slices_arrive_as_they_lie_in_the_file() {
    let (response, expected) = records(1 << 20);
    let handler = answer(move |_| {
        let response = response.clone();
        Box::pin(async move { Ok(Response::Body(Body::Fetch(response))) })
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    for round in 1..=3 {
        client.send_request(12, &FetchRequest::default()).await;
        let response = client.receive_answer::<FetchRequest>(12, round).await;
        let records = response.responses[0].partitions[0].records.clone().expect("records");
        assert!(records == expected, "{} bytes, expected {}", records.len(), expected.len());
    }
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_file_that_is_too_short_ends_the_connection() {
    let (mut response, _) = records(100);
    if let Some(Chunk::File(slice)) = response.topics[0].partitions[0].records.get_mut(2) {
        slice.len += 1;
    }
    let handler = answer(move |_| {
        let response = response.clone();
        Box::pin(async move { Ok(Response::Body(Body::Fetch(response))) })
    });
    let served = serve(handler, Limits::default());
    let mut client = served.client().await;
    client.send_request(12, &FetchRequest::default()).await;
    assert_eq!(client.receive().await, None, "the frame must not be whole");
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let (response, _) = records(16 << 20);
    let (events, mut seen) = mpsc::unbounded_channel();
    let handler = answer(move |_| {
        let (response, events) = (response.clone(), events.clone());
        Box::pin(async move {
            let _ = events.send(());
            Ok(Response::Body(Body::Fetch(response)))
        })
    });
    let limits = Limits { send_timeout: Duration::from_millis(300), ..Limits::default() };
    let served = serve(handler, limits);
    let mut client = served.client().await;
    for _ in 0..20 {
        client.send_request(12, &FetchRequest::default()).await;
    }
    soon("the first fetch", seen.recv()).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = soon("the end", client.stream.read(&mut buffer)).await {
        taken += count;
    }
    assert!(taken < 64 << 20, "{taken} bytes came: the connection went on");
    assert!(seen.try_recv().is_err(), "a second fetch was begun while the first response was stuck");
    assert!(served.stop().await);
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight() {
    let gate = Arc::new(Semaphore::new(0));
    let (events, mut seen) = mpsc::unbounded_channel();
    let handler = answer({
        let gate = gate.clone();
        move |request| {
            let (gate, events) = (gate.clone(), events.clone());
            Box::pin(async move {
                let _ = events.send(());
                if request.head.api == ApiKey::Fetch {
                    return std::future::pending().await;
                }
                let _ = gate.acquire().await;
                Ok(Response::new(ProduceResponse::default()))
            })
        }
    });
    let served = serve(handler, Limits::default());
    let (mut producer, mut consumer, mut idle) = (served.client().await, served.client().await, served.client().await);
    producer.send_request(9, &ProduceRequest::default()).await;
    consumer.send_request(12, &FetchRequest::default()).await;
    for _ in 0..2 {
        soon("a request", seen.recv()).await;
    }

    served.drain.cancel();

    // Nobody waits for data any more.
    idle.expect_close().await;
    consumer.expect_close().await;
    gate.add_permits(1);
    producer.receive_answer::<ProduceRequest>(9, 1).await;
    producer.expect_close().await;
    assert!(served.stop().await, "nothing was cut off");
}

#[tokio::test]
async fn a_request_waits_for_memory_that_others_hold() {
    let gate = Arc::new(Semaphore::new(0));
    let (events, mut seen) = mpsc::unbounded_channel();
    let handler = answer({
        let gate = gate.clone();
        move |_| {
            let (gate, events) = (gate.clone(), events.clone());
            Box::pin(async move {
                let _ = events.send(());
                gate.acquire().await.expect("open").forget();
                Ok(Response::new(MetadataResponse::default()))
            })
        }
    });
    // The pool for first bytes is 1 MiB: one frame of that size fills it.
    let limits = Limits { queued_request_bytes: 2 << 20, request_bytes: 1 << 20, ..Limits::default() };
    let served = serve(handler, limits);
    let mut frame =
        krocket_testkit::client::request_frame(1, 1, &MetadataRequest::default().with_topics(None)).to_vec();
    frame.resize(1 << 20, 0);
    let (mut first, mut second) = (served.client().await, served.client().await);
    first.send_frame(&frame).await;
    soon("the first", seen.recv()).await;
    second.send_request(1, &MetadataRequest::default().with_topics(None)).await;
    let quiet = tokio::time::timeout(Duration::from_millis(200), seen.recv()).await;
    assert!(quiet.is_err(), "the second was read though the memory is taken");

    gate.add_permits(1);

    soon("the second", seen.recv()).await;
    gate.add_permits(1);
    second.receive_answer::<MetadataRequest>(1, 1).await;
    assert!(served.stop().await);
}
