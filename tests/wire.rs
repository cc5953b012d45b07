//! What a hostile or broken client can send: it gets an answer or a closed connection, and others notice nothing.

use std::time::{Duration, Instant};

use bytes::BufMut;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, StrBytes};
use krocket_testkit::client::request_frame;
use krocket_testkit::{Client, Krocket};

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("testkit"))
        .with_client_software_version(StrBytes::from_static_str("1"))
}

/// key, version, correlation id, client id of this length, then the rest
fn frame(key: i16, version: i16, client_id_length: i16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_i16(key);
    bytes.put_i16(version);
    bytes.put_i32(7);
    bytes.put_i16(client_id_length);
    bytes.extend_from_slice(rest);
    bytes
}

fn with_length(length: i32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(rest);
    bytes
}

fn framed(frame: Vec<u8>) -> Vec<u8> {
    with_length(frame.len() as i32, &frame)
}

async fn still_serves(krocket: &Krocket) {
    let response = krocket.client().await.call(3, &api_versions()).await;
    assert_eq!(response.error_code, 0);
}

#[tokio::test]
async fn malformed_frames_close_the_connection() {
    let krocket = Krocket::start_with(|config| config.limits.request_bytes = 1 << 20).await;
    let long_array = [0x7f, 0xff, 0xff, 0xff];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("length zero", with_length(0, b"")),
        ("negative length", with_length(-1, b"garbage")),
        ("most negative length", with_length(i32::MIN, b"")),
        ("length above the limit", with_length((1 << 20) + 1, b"")),
        ("largest length", with_length(i32::MAX, b"")),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: krocket\r\n\r\n".to_vec()),
        ("a TLS hello", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03]),
        ("a header of one byte", framed(vec![0])),
        ("a header cut in its correlation id", framed(vec![0, 18, 0, 3, 0, 0, 0])),
        ("an unknown api key", framed(frame(1234, 0, -1, b""))),
        ("a negative api key", framed(frame(-1, 0, -1, b""))),
        ("an api that only controllers serve", framed(frame(52, 0, -1, b"\0"))),
        ("a client id longer than the frame", framed(frame(3, 1, 100, b"short"))),
        ("a negative client id length", framed(frame(3, 1, -2, b""))),
        ("a client id that is not UTF-8", framed(frame(3, 1, 2, b"\xff\xfe\0\0\0\0"))),
        ("a tag section without end", framed(frame(3, 12, -1, &[0xff; 16]))),
        ("a version that is not served", framed(frame(3, 99, -1, b"\0\0\0"))),
        ("a negative version", framed(frame(3, -1, -1, b""))),
        ("a body that is missing", framed(frame(18, 3, -1, b"\0"))),
        ("an array of two billion entries", framed(frame(3, 1, -1, &long_array))),
        ("a varint array of four billion entries", framed(frame(3, 12, -1, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]))),
        ("nothing but 0xff", framed(vec![0xff; 64])),
    ];
    for (name, bytes) in cases {
        println!("{name}");
        let mut client = krocket.client().await;
        client.send(&bytes).await;
        client.expect_close().await;
    }
    still_serves(&krocket).await;
    krocket.stop().await;
}

/// The Metadata request that librdkafka 2.12 and later send for all topics: another array and two tag sections follow.
#[tokio::test]
async fn bytes_after_the_last_field_are_passed_over() {
    let krocket = Krocket::start().await;
    let mut client = krocket.client().await;
    client.send(&framed(frame(3, 13, -1, &[0, 0, 0, 0, 0, 1, 0, 0]))).await;
    assert!(client.receive().await.is_some());
    still_serves(&krocket).await;
    krocket.stop().await;
}

#[tokio::test]
async fn every_prefix_of_a_request_closes_quietly_when_the_client_leaves() {
    let krocket = Krocket::start().await;
    let bytes = framed(request_frame(3, 1, &api_versions()).to_vec());
    for cut in 0..bytes.len() {
        let mut client = krocket.client().await;
        client.send(&bytes[..cut]).await;
        drop(client);
    }
    still_serves(&krocket).await;
    krocket.stop().await;
}

#[tokio::test]
async fn an_api_versions_version_from_the_future_is_answered_as_version_0_with_the_list() {
    let krocket = Krocket::start().await;
    for version in [5, 99, i16::MAX] {
        let mut client = krocket.client().await;
        // Flexible header: a client id, then an empty tag section.
        client.send_frame(&frame(18, version, -1, b"\0whatever such a version holds")).await;
        let mut answer = client.receive().await.expect("an answer");
        assert_eq!(ResponseHeader::decode(&mut answer, 0).expect("a header").correlation_id, 7);
        let answer = ApiVersionsResponse::decode(&mut answer, 0).expect("version 0");
        assert_eq!(answer.error_code, 35);
        assert!(answer.api_keys.iter().any(|api| api.api_key == 18 && api.max_version == 4));
        // The connection is still good.
        assert_eq!(client.call(4, &api_versions()).await.error_code, 0);
    }
    krocket.stop().await;
}

#[tokio::test]
async fn api_versions_answers_every_version() {
    let krocket = Krocket::start().await;
    let mut client = krocket.client().await;
    for version in 0..=4 {
        let request = if version >= 3 { api_versions() } else { ApiVersionsRequest::default() };
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).expect("Produce");
        assert_eq!(produce.min_version, 0);
    }
    let nameless = client.call(3, &ApiVersionsRequest::default()).await;
    assert_eq!(nameless.error_code, 42, "an empty software name is INVALID_REQUEST");
    krocket.stop().await;
}

#[tokio::test]
async fn a_half_sent_frame_times_out() {
    let krocket = Krocket::start_with(|config| config.limits.receive_timeout = Duration::from_millis(200)).await;
    for sent in [1, 3, 4, 5, 1000] {
        let mut client = krocket.client().await;
        client.send(&with_length(100_000, &[0; 1000])[..sent]).await;
        client.expect_close().await;
    }
    krocket.stop().await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_keep_a_connection() {
    let krocket = Krocket::start_with(|config| config.limits.receive_timeout = Duration::from_millis(300)).await;
    let mut client = krocket.client().await;
    client.send(&with_length(60_000, b"")).await;
    let begin = Instant::now();
    let drip = async {
        use tokio::io::AsyncWriteExt;
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if client.stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    krocket_testkit::soon("the close", drip).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    krocket.stop().await;
}

#[tokio::test]
async fn a_frame_that_arrives_in_pieces_is_one_frame() {
    let krocket = Krocket::start().await;
    let mut client = krocket.client().await;
    for byte in framed(request_frame(3, 1, &api_versions()).to_vec()) {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.receive_answer::<ApiVersionsRequest>(3, 1).await.error_code, 0);
    krocket.stop().await;
}

#[tokio::test]
async fn a_thousand_connections_are_served_and_one_more_than_the_limit_is_not() {
    let krocket = Krocket::start_with(|config| config.limits.connections = 1000).await;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(krocket.client().await);
    }
    for client in &mut clients {
        client.send_request(3, &api_versions()).await;
    }
    for client in &mut clients {
        assert_eq!(client.receive_answer::<ApiVersionsRequest>(3, 1).await.error_code, 0);
    }
    krocket.client().await.expect_close().await;

    drop(clients.pop());

    // The place is free once the server has noticed.
    let free = async {
        loop {
            let mut client = krocket.client().await;
            client.send_request(3, &api_versions()).await;
            if client.receive().await.is_some() {
                return;
            }
        }
    };
    krocket_testkit::soon("a free place", free).await;
    krocket.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let krocket = Krocket::start_with(|config| config.limits.idle = Duration::from_millis(300)).await;
    let mut idle = krocket.client().await;
    let mut busy = krocket.client().await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(700) {
        assert_eq!(busy.call(3, &api_versions()).await.error_code, 0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    idle.expect_close().await;
    busy.expect_close().await;
    krocket.stop().await;
}

#[tokio::test]
async fn a_stopped_server_takes_nobody() {
    let krocket = Krocket::start().await;
    let address = krocket.kafka;
    let mut client = Client::connect(address).await;
    assert_eq!(client.call(3, &api_versions()).await.error_code, 0);

    krocket.stop().await;

    client.expect_close().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
