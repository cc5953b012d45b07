//! The program as an operator meets it: signals, exit codes, sentences.

use std::io::{Read, Write};
use std::path::Path;

use krocket_testkit::Process;
use krocket_testkit::process::run;
use rustix::process::Signal;
use tempfile::tempdir;

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

#[test]
fn sigterm_and_sigint_drain_and_leave_a_folder_that_opens_again() {
    let folder = tempdir().expect("a temporary folder");
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::serve(KROCKET, folder.path());
        let (_, http) = process.wait_until_ready();
        assert!(get(http, "/readyz").contains("200 OK"));
        process.signal(signal);
        let (status, log) = process.wait();
        assert!(status.success(), "{status:?}\n{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

/// A database that closes while exit(3) runs the C++ destructors aborts the process, so it has to be closed by then,
/// whoever held on to it.
#[test]
fn the_index_is_closed_before_the_process_ends() {
    for _ in 0..10 {
        let folder = tempdir().expect("a temporary folder");
        let data_dir = text(folder.path());
        let free = "127.0.0.1:0";
        let arguments = ["--listen", free, "--http", free, "--data-dir", data_dir, "--log", "info,krocket_store=debug"];
        let mut process = Process::start(KROCKET, &arguments);
        let (_, http) = process.wait_until_ready();
        let client = std::net::TcpStream::connect(http).expect("connected");
        (&client).write_all(b"GET /metrics HTTP/1.1\r\nHost: krocket\r\n\r\n").expect("sent");
        process.signal(Signal::TERM);
        let (status, log) = process.wait();
        assert!(status.success(), "{status:?}\n{log}");
        assert!(log.contains("the index closes"), "{log}");
    }
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = tempdir().expect("a temporary folder");
    let data_dir = text(folder.path());
    for (listen, http, what) in [(address.as_str(), "127.0.0.1:0", "Kafka"), ("127.0.0.1:0", address.as_str(), "HTTP")]
    {
        let (code, _, stderr) = run(KROCKET, &["--listen", listen, "--http", http, "--data-dir", data_dir]);
        assert_eq!(code, Some(1));
        assert_eq!(stderr, format!("krocket: cannot listen on {address} for {what}: the port is in use\n"));
    }
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let folder = tempdir().expect("a temporary folder");
    let mut first = Process::serve(KROCKET, folder.path());
    let (_, http) = first.wait_until_ready();
    let arguments = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", text(folder.path())];
    let (code, _, stderr) = run(KROCKET, &arguments);
    assert_eq!(code, Some(1), "{stderr}");
    let sentence = format!(
        "krocket: cannot open the data folder: {} is in use by another process (pid {})",
        folder.path().display(),
        first.id()
    );
    assert_eq!(stderr.trim_end(), sentence);
    assert!(get(http, "/readyz").contains("200 OK"), "the first goes on");
}

#[test]
fn a_folder_that_cannot_be_used_is_one_sentence() {
    // Not even root may create this one.
    let arguments = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", "/proc/krocket"];
    let (code, _, stderr) = run(KROCKET, &arguments);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.starts_with("krocket: cannot open the data folder: ") && stderr.contains("/proc/krocket"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_folder_of_a_newer_krocket_is_left_alone() {
    let folder = tempdir().expect("a temporary folder");
    let format = folder.path().join("format");
    std::fs::write(&format, "krocket 999 0123456789abcdef 00000000\n").expect("written");
    let arguments = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", text(folder.path())];
    let (code, _, stderr) = run(KROCKET, &arguments);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("format 999") && stderr.lines().count() == 1, "{stderr}");
    assert!(std::fs::read_to_string(format).expect("still there").starts_with("krocket 999 "));
}

#[test]
fn a_bad_configuration_is_shown_and_exits_with_64() {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
    file.write_all(b"[server]\nlisen = \"127.0.0.1:9092\"\n").expect("written");
    for arguments in [vec!["check-config", text(file.path())], vec!["serve", "--config", text(file.path())]] {
        let (code, _, stderr) = run(KROCKET, &arguments);
        assert_eq!(code, Some(64), "{stderr}");
        let expected = format!(
            "krocket: {}:2:1: unknown key `lisen`, did you mean `listen`?\n  |\n2 | lisen = \"127.0.0.1:9092\"\n  | ^^^^^\n",
            file.path().display()
        );
        assert_eq!(stderr, expected);
    }
    for arguments in [
        vec!["--lisen", "x"],
        vec!["check-config"],
        vec!["--listen", "nonsense"],
        vec!["check-config", "/does/not/exist"],
    ] {
        let (code, _, stderr) = run(KROCKET, &arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn every_example_passes_check_config() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).expect("the examples") {
        let path = entry.expect("an entry").path();
        let (code, stdout, stderr) = run(KROCKET, &["check-config", text(&path)]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{}", path.display());
        assert_eq!(stdout, format!("{}: ok\n", path.display()));
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn version_and_help_succeed() {
    let (code, stdout, _) = run(KROCKET, &["version"]);
    assert_eq!((code, stdout), (Some(0), format!("krocket {}\n", env!("CARGO_PKG_VERSION"))));
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(run(KROCKET, &arguments).0, Some(0));
    }
}

#[test]
fn metrics_are_in_prometheus_text_with_the_process_among_them() {
    let folder = tempdir().expect("a temporary folder");
    let mut process = Process::serve(KROCKET, folder.path());
    let (kafka, http) = process.wait_until_ready();
    let _client = std::net::TcpStream::connect(kafka).expect("connects");
    let metrics = get(http, "/metrics");
    for line in [
        "krocket_requests_total{api=\"Produce\"} 0",
        "# TYPE krocket_connections gauge",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(get(http, "/livez").contains("200 OK"));
    assert!(get(http, "/nothing").contains("404"));
}

/// A GET without an HTTP library.
fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: krocket\r\nConnection: close\r\n\r\n").expect("sends");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("text");
    response
}

#[test]
fn requests_are_logged_while_the_configuration_says_so_and_their_secrets_never_are() {
    let folder = tempdir().expect("a temporary folder");
    let (file, data_dir) = (folder.path().join("krocket.toml"), folder.path().join("data"));
    let server =
        format!("[server]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\ndata_dir = {:?}\n", text(&data_dir));
    std::fs::write(&file, &server).expect("written");
    let mut process = Process::start(KROCKET, &["serve", "--config", text(&file)]);
    let (kafka, _) = process.wait_until_ready();
    let mut client = std::net::TcpStream::connect(kafka).expect("connected");
    ask(&mut client, 18, "before", &[]);
    let reload = |process: &mut Process, requests: &str| {
        std::fs::write(&file, format!("{server}{requests}")).expect("written");
        process.wait_for_line("the configuration was read again");
    };

    reload(&mut process, "[logging.requests]\nsample = 1.0\n");
    ask(&mut client, 18, "probe\nx", &[]);
    let line = process.wait_for_line("krocket_proxy::requests");
    for field in [
        "api=ApiVersions version=0 client_id=\"probe\\nx\"",
        "principal=\"User:ANONYMOUS\"",
        "error_code=0",
        "slow=false",
    ] {
        assert!(line.contains(field), "no {field} in {line}");
    }
    let token = b"\0user\0hunter2";
    ask(&mut client, 36, "probe", &[&(token.len() as i32).to_be_bytes()[..], token].concat());
    let line = process.wait_for_line("SaslAuthenticate");
    assert!(line.contains("error=\"IllegalSaslState\""), "{line}");

    reload(&mut process, "[logging.requests]\nslow = \"1h\"\n");
    ask(&mut client, 18, "after", &[]);
    process.signal(Signal::TERM);
    let (status, log) = process.wait();
    assert!(status.success(), "{status:?}\n{log}");
    assert_eq!(log.matches("krocket_proxy::requests").count(), 2, "{log}");
    assert!(!log.contains("hunter2") && !log.contains("restart of krocket"), "{log}");
}

/// One request of version 0, and its answer.
fn ask(client: &mut std::net::TcpStream, api: i16, client_id: &str, body: &[u8]) {
    let id = (client_id.len() as i16).to_be_bytes();
    let request = [&api.to_be_bytes()[..], &[0; 6], &id, client_id.as_bytes(), body].concat();
    client.write_all(&(request.len() as i32).to_be_bytes()).expect("sent");
    client.write_all(&request).expect("sent");
    let mut length = [0; 4];
    client.read_exact(&mut length).expect("answered");
    client.read_exact(&mut vec![0; i32::from_be_bytes(length) as usize]).expect("answered");
}
