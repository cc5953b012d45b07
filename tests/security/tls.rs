//! TLS: who shakes hands, what is carried, certificates that change.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use krocket_config::schema::HostPort;
use krocket_config::security::{ClientAuth, Tls};
use krocket_testkit::{Client, Krocket, PATIENCE, soon};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Authority, Identity, connect, handshake, listener, tls};

fn authority() -> (Authority, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (Authority::new(folder.path(), "ca"), folder)
}

async fn start(listeners: Vec<krocket_config::security::Listener>) -> Krocket {
    Krocket::start_with(|config| config.listeners = listeners).await
}

fn mutual(server: &Identity, authority: &Authority, client_auth: ClientAuth) -> Tls {
    Tls { client_ca: Some(authority.file()), client_auth, ..tls(server) }
}

/// True when requests are answered: TLS 1.3 clients have shaken hands before the server looks at their certificate.
async fn comes_in(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> bool {
    let Ok(stream) = handshake(address, config).await else { return false };
    let mut client = Client::over(stream);
    let request = krocket_testkit::client::request_frame(0, 1, &ApiVersionsRequest::default());
    let mut bytes = (request.len() as i32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&request);
    if client.stream.write_all(&bytes).await.is_err() {
        return false;
    }
    soon("an answer or the end", client.stream.read_i32()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_tells_its_own_address() {
    let (authority, _folder) = authority();
    let mut outside = listener("outside", Some(tls(&authority.sign("krocket"))));
    outside.advertised = Some(HostPort::new("kafka.example", 443));
    let krocket = start(vec![listener("inside", None), outside]).await;
    let inside = krocket.listener("inside");
    assert_eq!(inside, krocket.kafka);
    let mut plain = Client::connect(inside).await;
    let mut encrypted = connect(krocket.listener("outside"), &authority.client(None)).await;

    let coordinator = FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_static_str("g")]);
    let told = [
        {
            let metadata = plain.call(12, &MetadataRequest::default()).await;
            let cluster = plain.call(0, &DescribeClusterRequest::default()).await;
            let found = plain.call(4, &coordinator).await;
            [
                (metadata.brokers[0].host.to_string(), metadata.brokers[0].port),
                (cluster.brokers[0].host.to_string(), cluster.brokers[0].port),
                (found.coordinators[0].host.to_string(), found.coordinators[0].port),
            ]
        },
        {
            let metadata = encrypted.call(12, &MetadataRequest::default()).await;
            let cluster = encrypted.call(0, &DescribeClusterRequest::default()).await;
            let found = encrypted.call(4, &coordinator).await;
            [
                (metadata.brokers[0].host.to_string(), metadata.brokers[0].port),
                (cluster.brokers[0].host.to_string(), cluster.brokers[0].port),
                (found.coordinators[0].host.to_string(), found.coordinators[0].port),
            ]
        },
    ];

    let expected = [("127.0.0.1".to_owned(), i32::from(inside.port())), ("kafka.example".to_owned(), 443)];
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.iter().all(|address| *address == expected), "{told:?} instead of {expected:?}");
    }
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_of_the_right_authority_that_has_not_expired() {
    let (authority, folder) = authority();
    let strangers = Authority::new(folder.path(), "strangers");
    let server = authority.sign("krocket");
    let (alice, expired) = (authority.sign("alice"), authority.sign_until("late", 2021));
    let mut eve = authority.client(Some(&strangers.sign("eve")));
    let krocket = start(vec![
        listener("required", Some(mutual(&server, &authority, ClientAuth::Required))),
        listener("requested", Some(mutual(&server, &authority, ClientAuth::Requested))),
    ])
    .await;

    for (what, client, required, requested) in [
        ("a good certificate", authority.client(Some(&alice)), true, true),
        ("none", authority.client(None), false, true),
        ("an expired one", authority.client(Some(&expired)), false, false),
        ("one of strangers", std::mem::replace(&mut eve, authority.client(None)), false, false),
    ] {
        assert_eq!(comes_in(krocket.listener("required"), &client).await, required, "required: {what}");
        assert_eq!(comes_in(krocket.listener("requested"), &client).await, requested, "requested: {what}");
    }
    // The other way round: a client that does not trust the server's authority.
    let error = handshake(krocket.listener("requested"), &strangers.client(None)).await.expect_err("unknown authority");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_shut_out_when_the_list_says_so() {
    let (authority, _folder) = authority();
    let (server, alice, bob) = (authority.sign("krocket"), authority.sign("alice"), authority.sign("bob"));
    let crl = authority.revoke(&[&bob]);
    let required = Tls { crl: Some(crl.clone()), ..mutual(&server, &authority, ClientAuth::Required) };
    let krocket = start(vec![listener("required", Some(required))]).await;
    let address = krocket.listener("required");
    let (as_alice, as_bob) = (authority.client(Some(&alice)), authority.client(Some(&bob)));
    assert!(comes_in(address, &as_alice).await && !comes_in(address, &as_bob).await);
    let mut open = connect(address, &as_alice).await;
    open.call(12, &MetadataRequest::default()).await;

    // The file is followed; connections that are open go on.
    authority.revoke(&[&alice]);
    let changed = async { while comes_in(address, &as_alice).await {} };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new list is used");
    assert!(comes_in(address, &as_bob).await, "what is no longer on the list");
    open.call(12, &MetadataRequest::default()).await;

    // A list that is none changes nothing.
    std::fs::write(&crl, "nonsense").expect("written");
    let wait = tokio::time::Instant::now() + Duration::from_millis(2500);
    while tokio::time::Instant::now() < wait {
        assert!(!comes_in(address, &as_alice).await, "nonsense lets nobody in");
    }
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_is_ended_and_half_of_one_does_not_last() {
    let (authority, _folder) = authority();
    let server = authority.sign("krocket");
    let krocket = Krocket::start_with(|config| {
        config.listeners = vec![listener("tls", Some(tls(&server)))];
        config.limits.receive_timeout = Duration::from_millis(300);
        config.limits.connections = 8;
    })
    .await;
    let address = krocket.listener("tls");

    let mut plain = TcpStream::connect(address).await.expect("connects");
    plain.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255]).await.expect("sends");
    let mut rest = Vec::new();
    let _ = soon("the end", plain.read_to_end(&mut rest)).await;
    assert!(rest.len() < 16, "an alert at most: {rest:?}");

    // Two of eight places are for those who have not finished their handshake.
    let mut half: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        half.push(TcpStream::connect(address).await.expect("connects"));
    }
    for stream in &mut half {
        let mut byte = [0];
        let read = soon("the server's patience ends", stream.read(&mut byte)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert!(comes_in(address, &authority.client(None)).await);
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_taken_over_under_traffic_and_bad_ones_are_not() {
    let (authority, folder) = authority();
    let old = authority.sign("krocket");
    let krocket = start(vec![listener("tls", Some(tls(&old)))]).await;
    let address = krocket.listener("tls");
    let client = authority.client(None);
    let mut open = connect(address, &client).await;
    let first = serial(address, &client).await;

    // Same files, another certificate; in between they do not belong together.
    let other = tempfile::tempdir().expect("a folder");
    let next = Authority { folder: other.path().to_owned(), ..authority }.sign("krocket");
    std::fs::copy(&next.key, &old.key).expect("copied");
    open.call(12, &MetadataRequest::default()).await;
    assert_eq!(serial(address, &client).await, first, "a key without its certificate changes nothing");
    std::fs::copy(&next.cert, &old.cert).expect("copied");

    let changed = async {
        while serial(address, &client).await == first {
            open.call(12, &MetadataRequest::default()).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new certificate is used");
    let second = serial(address, &client).await;
    std::fs::write(&old.cert, "nonsense").expect("written");
    // Two looks.
    let wait = tokio::time::Instant::now() + Duration::from_millis(2500);
    while tokio::time::Instant::now() < wait {
        assert_eq!(serial(address, &client).await, second, "nonsense is not taken over");
    }
    open.call(12, &MetadataRequest::default()).await;
    drop(folder);
    krocket.stop().await;
}

/// The certificate that the server shows.
async fn serial(address: std::net::SocketAddr, client: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = handshake(address, client).await.expect("shakes hands");
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a certificate")[0].to_vec()
}
