//! The HTTP API encrypted, asked by name and password, and by the command line.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use krocket_config::security::{Mechanism, ServerTls};
use krocket_testkit::{Client, Krocket, PATIENCE, soon};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Authority, Identity, connect, handshake, listener, tls};

/// Sends a request with an empty object and reads the whole answer.
async fn send(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> String {
    let authorization = authorization.map(|it| format!("Authorization: {it}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: krocket\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    let mut answer = String::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.read_to_string(&mut answer).await
    };
    soon("an answer", exchange).await.expect("an answer");
    answer
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, authorization: Option<&str>) -> String {
    send(stream, "GET", path, authorization).await
}

/// Asks as a user whose password is the name.
pub(crate) async fn request(http: SocketAddr, method: &str, path: &str, user: Option<&str>) -> String {
    let stream = TcpStream::connect(http).await.expect("connects");
    let authorization = user.map(|user| basic(user, user));
    send(stream, method, path, authorization.as_deref()).await
}

async fn plain(http: SocketAddr, path: &str, authorization: Option<&str>) -> String {
    ask(TcpStream::connect(http).await.expect("connects"), path, authorization).await
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// Runs the command line with these variables: exit code, stdout, stderr.
async fn krocket(variables: &[(&str, &str)], arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_krocket"));
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().expect("runs");
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("ends")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn server_tls(identity: &Identity) -> ServerTls {
    ServerTls { cert: identity.cert.clone(), key: identity.key.clone() }
}

async fn shown(http: SocketAddr, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = handshake(http, config).await.expect("shakes hands");
    stream.get_ref().1.peer_certificates().expect("a chain")[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_encrypted_and_takes_over_new_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let identity = authority.sign("krocket");
    let server = Krocket::start_with(|config| config.http.tls = Some(server_tls(&identity))).await;
    let trusting = authority.client(None);
    let secure = async || handshake(server.http, &trusting).await.expect("shakes hands");
    assert!(ask(secure().await, "/livez", None).await.starts_with("HTTP/1.1 200"));
    let metrics = ask(secure().await, "/metrics", None).await;
    assert!(metrics.contains("krocket_tls_certificate_expiry_timestamp_seconds{listener=\"http\"}"), "{metrics}");

    // Half a handshake keeps nobody out, and what is none is ended.
    let _slow = TcpStream::connect(server.http).await.expect("connects");
    let mut clear = TcpStream::connect(server.http).await.expect("connects");
    clear.write_all(b"GET /livez HTTP/1.1\r\n\r\n").await.expect("sends");
    let mut answer = Vec::new();
    let _ = soon("the end", clear.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(ask(secure().await, "/livez", None).await.starts_with("HTTP/1.1 200"));

    let before = shown(server.http, &trusting).await;
    let next = authority.sign("next");
    std::fs::copy(&next.key, &identity.key).expect("written");
    std::fs::copy(&next.cert, &identity.cert).expect("written");
    let expected = CertificateDer::from_pem_file(&next.cert).expect("a certificate");
    let changed = async { while shown(server.http, &trusting).await == before {} };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new certificate is used");
    assert_eq!(shown(server.http, &trusting).await, expected);

    let (http, ca) = (server.http.to_string(), authority.file().display().to_string());
    let topics = ["message", "send", "orders", "hello"];
    let (code, stdout, stderr) =
        krocket(&[("KROCKET_HTTP", &format!("https://{http}")), ("KROCKET_CA", &ca)], &topics, "").await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "orders:0:0\n", ""));
    let (code, stdout, _) = krocket(&[], &["topic", "list", "--json", "--http", &http, "--ca", &ca], "").await;
    let listed: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &listed["items"][0]["name"]), (Some(0), &Value::from("orders")));
    let stranger = Authority::new(folder.path(), "strangers").file().display().to_string();
    let (code, _, stderr) = krocket(&[("KROCKET_HTTP", &http)], &["topic", "list", "--ca", &stranger], "").await;
    assert!(code == Some(1) && stderr.contains("UnknownIssuer"), "{stderr}");
    server.stop().await;
}

/// The authorizer is on; admin and alice are in the users file. Listeners `open` and `sasl`.
async fn guarded(folder: &Path, change: impl FnOnce(&mut krocket_config::Config)) -> Krocket {
    let users = folder.join("users.toml");
    std::fs::write(&users, "admin = \"root beer\"\nalice = \"wonderland\"\n").expect("written");
    Krocket::start_with(|config| {
        let mut sasl = listener("sasl", None);
        sasl.sasl = vec![Mechanism::ScramSha256, Mechanism::Plain];
        config.listeners = vec![listener("open", None), sasl];
        config.security.users_file = Some(users);
        config.security.authorizer = true;
        config.security.super_users = vec!["User:admin".to_owned()];
        change(config);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_passwords_open_what_their_user_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = guarded(folder.path(), |_| {}).await;
    let answer = plain(server.http, "/v1/config", None).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    for challenge in ["www-authenticate: basic realm=\"krocket\"", "www-authenticate: bearer realm=\"krocket\""] {
        assert!(answer.contains(challenge), "{answer}");
    }
    for (authorization, expected) in [
        (basic("admin", "root beer"), "200"),
        (basic("alice", "wonderland"), "403"),
        (basic("alice", "root beer"), "401"),
        (basic("eve", "x"), "401"),
        ("Basic ???".to_owned(), "401"),
        ("Digest x".to_owned(), "401"),
    ] {
        let answer = plain(server.http, "/v1/config", Some(&authorization)).await;
        assert_eq!(status(&answer), expected, "{authorization}: {answer}");
        assert!(!answer.contains("wonderland") && !answer.contains("root beer"), "{answer}");
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(status(&plain(server.http, path, None).await), "200", "{path}");
    }

    // A user's new password counts at once, though the old one was right a moment ago.
    let kafka = server.listener("sasl").to_string();
    let admin = [("KROCKET_USER", "admin"), ("KROCKET_PASSWORD", "root beer"), ("KROCKET_BOOTSTRAP", &kafka)];
    let (code, stdout, stderr) = krocket(&admin, &["user", "add", "admin"], "ginger ale\n").await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert_eq!(status(&plain(server.http, "/v1/config", Some(&basic("admin", "root beer"))).await), "401");
    assert_eq!(status(&plain(server.http, "/v1/config", Some(&basic("admin", "ginger ale"))).await), "200");
    let metrics = plain(server.http, "/metrics", None).await;
    let counted = "krocket_authentications_total{listener=\"http\",mechanism=\"Basic\",result=\"failed\"} 3";
    assert!(metrics.contains(counted), "{metrics}");

    // Guesses: after some of them the answer is to wait.
    let mut answers = Vec::new();
    for _ in 0..5 {
        let guess =
            async |number: i32| plain(server.http, "/v1/config", Some(&basic("alice", &number.to_string()))).await;
        let guesses = futures_util::future::join_all((0..10).map(guess)).await;
        answers.extend(guesses.iter().map(|answer| status(answer).to_owned()));
    }
    let count = |code: &str| answers.iter().filter(|answer| *answer == code).count();
    assert!(count("401") >= 10 && count("429") >= 10 && count("401") + count("429") == 50, "{answers:?}");
    let remembered = plain(server.http, "/v1/config", Some(&basic("admin", "ginger ale"))).await;
    assert_eq!(status(&remembered), "200", "who was right a moment ago does not have to wait");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_listed_and_deleted_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let server = guarded(folder.path(), |config| {
        let mut outside = listener("outside", Some(tls(&authority.sign("krocket"))));
        outside.sasl = vec![Mechanism::ScramSha512];
        let mut named = listener("plain", None);
        named.sasl = vec![Mechanism::Plain];
        config.listeners.extend([outside, named]);
    })
    .await;
    let ca = authority.file().display().to_string();
    let address = |name: &str| server.listener(name).to_string();
    let password = folder.path().join("password");
    std::fs::write(&password, "root beer\n").expect("written");
    let file = password.display().to_string();
    let outside = address("outside");
    let admin = ["--bootstrap", &outside, "--ca", &ca, "--user", "admin", "--password-file", &file];
    let run =
        async |arguments: &[&str], input: &str| krocket(&[], &[&["user"], arguments, &admin[..]].concat(), input).await;

    assert_eq!(run(&["list"], "").await, (Some(0), "nothing there\n".to_owned(), String::new()));
    let (code, stdout, stderr) = run(&["add", "bob"], "builder\n").await;
    let said = "bob has this password from now on (SCRAM-SHA-256, SCRAM-SHA-512)\n";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), said, ""));
    let (code, _, stderr) = krocket(
        &[("KROCKET_NEW_PASSWORD", "a,b=c")],
        &[&["user", "add", "o=n,e", "--mechanism", "SCRAM-SHA-512"], &admin[..]].concat(),
        "",
    )
    .await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (_, stdout, _) = run(&["list", "--json"], "").await;
    let listed: Value = serde_json::from_str(&stdout).expect("JSON");
    let both = serde_json::json!([{"mechanism": "SCRAM-SHA-256", "iterations": 8192}, {"mechanism": "SCRAM-SHA-512", "iterations": 8192}]);
    let expected = serde_json::json!({"items": [
        {"name": "bob", "credentials": both},
        {"name": "o=n,e", "credentials": [{"mechanism": "SCRAM-SHA-512", "iterations": 8192}]},
    ]});
    assert_eq!(listed, expected);

    // Their passwords are good, on other listeners too, and not for everything.
    let sasl = address("sasl");
    let as_user = async |user: &str, password: &str, at: &str| {
        krocket(&[("KROCKET_PASSWORD", password)], &["user", "list", "--bootstrap", at, "--user", user], "").await
    };
    for at in [&sasl, &address("plain")] {
        let (code, _, stderr) = as_user("bob", "builder", at).await;
        assert!(code == Some(1) && stderr.contains("Cluster authorization failed"), "{at}: {stderr}");
        let (code, _, stderr) = as_user("bob", "wrong", at).await;
        assert!(
            code == Some(1) && stderr.starts_with("krocket: bob is not let in: Authentication failed"),
            "{at}: {stderr}"
        );
    }
    let mut encrypted = connect(server.listener("outside"), &authority.client(None)).await;
    let login = crate::sasl_client::scram(
        &mut encrypted,
        krocket_stack::security::ScramMechanism::Sha512,
        "o=3Dn=2Ce",
        "a,b=c",
    );
    assert_eq!(login.await, Ok(0));

    assert_eq!(run(&["delete", "bob", "--mechanism", "SCRAM-SHA-256"], "").await.0, Some(0));
    let (code, stdout, _) = run(&["delete", "bob"], "").await;
    assert_eq!((code, stdout.as_str()), (Some(0), "bob has this password no more (SCRAM-SHA-512)\n"));
    let (code, _, stderr) = run(&["delete", "bob"], "").await;
    assert_eq!((code, stderr.as_str()), (Some(1), "krocket: there is no user \"bob\"\n"));
    assert!(as_user("bob", "builder", &sasl).await.2.contains("not let in"), "the password is gone");

    // What goes wrong is said.
    let closed = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("bound").to_string()
    };
    for (arguments, sentence) in [
        (vec!["--bootstrap", &closed], "cannot be reached"),
        (vec!["--bootstrap", &sasl], "a user (--user)?"),
        (
            vec!["--bootstrap", &address("open"), "--user", "admin", "--password-file", &file],
            "has no SASL: leave --user out",
        ),
        (vec!["--bootstrap", &sasl, "--ca", &ca], "the TLS handshake failed"),
        (
            vec!["--bootstrap", &sasl, "--user", "admin"],
            "admin needs a password: set KROCKET_PASSWORD or --password-file",
        ),
    ] {
        let (code, stdout, stderr) = krocket(&[], &[&["user", "list"], &arguments[..]].concat(), "").await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr.starts_with("krocket: ") && stderr.contains(sentence), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = run(&["add", "bob"], "\n").await;
    assert!(code == Some(1) && stderr.contains("no password comes from stdin"), "{stderr}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_http_as_a_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = guarded(folder.path(), |_| {}).await;
    let http = server.http.to_string();
    let of = |password: &'static str| [("KROCKET_HTTP", http.clone()), ("KROCKET_PASSWORD", password.to_owned())];
    let run = async |password: &'static str, arguments: &[&str]| {
        let variables = of(password);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        krocket(&variables, arguments, "").await
    };
    let (code, stdout, stderr) = run("root beer", &["message", "send", "orders", "x", "--user", "admin"]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "orders:0:0\n", ""));
    let (code, _, stderr) = run("root", &["topic", "list", "--user", "admin"]).await;
    assert_eq!((code, stderr.as_str()), (Some(1), "krocket: user name or password is wrong\n"));
    let (_, _, stderr) = run("root", &["topic", "list"]).await;
    assert!(stderr.contains("who is asking?") && stderr.contains("--user"), "{stderr}");
    // A backup reads files, which needs the same permission.
    let folder = folder.path().join("backups").display().to_string();
    let (code, stdout, stderr) = run("root beer", &["backup", "create", &folder, "--user", "admin"]).await;
    assert!(code == Some(0) && stdout.contains("is complete"), "{stdout}{stderr}");
    server.stop().await;
}

/// A refused client may write on. If the server closed with that unread, the refusal would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_on_while_refused_reads_all_of_the_refusal() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let server = guarded(folder.path(), |config| {
        let mut outside = listener("outside", Some(tls(&authority.sign("krocket"))));
        outside.sasl = vec![Mechanism::Plain];
        config.listeners.push(outside);
        config.limits.request_bytes = 4096;
    })
    .await;
    for round in 0..5 {
        refused(Client::connect(server.listener("sasl")).await, round).await;
        refused(connect(server.listener("outside"), &authority.client(None)).await, round).await;
    }

    // The same with what was answered before a request that is too long.
    for round in 0..5 {
        let mut client = Client::connect(server.listener("open")).await;
        let versions = kafka_protocol::messages::ApiVersionsRequest::default();
        let id = client.send_request(0, &versions).await;
        client.send(&i32::MAX.to_be_bytes()).await;
        client.send(&[7; 100_000]).await;
        let answer = client.receive_answer::<kafka_protocol::messages::ApiVersionsRequest>(0, id).await;
        assert_eq!(answer.error_code, 0, "round {round}");
        ends_cleanly(&mut client).await;
    }
    server.stop().await;
}

async fn refused<S: AsyncRead + AsyncWrite + Unpin>(mut client: Client<S>, round: i32) {
    use kafka_protocol::messages::{MetadataRequest, SaslAuthenticateRequest};
    assert_eq!(crate::sasl_client::handshake(&mut client, 1, "PLAIN").await.error_code, 0);
    let request = SaslAuthenticateRequest::default().with_auth_bytes("\0alice\0wrong".into());
    let id = client.send_request(2, &request).await;
    for _ in 0..200 {
        client.send_request(12, &MetadataRequest::default()).await;
    }
    let answer = client.receive_answer::<SaslAuthenticateRequest>(2, id).await;
    assert_eq!(answer.error_code, 58, "round {round}");
    ends_cleanly(&mut client).await;
}

/// By the end of the stream, not by a reset.
async fn ends_cleanly<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) {
    let mut rest = Vec::new();
    let end = soon("the end", client.stream.read_to_end(&mut rest)).await;
    assert_eq!((end.expect("no reset"), rest.len()), (0, 0));
}
