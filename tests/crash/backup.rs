//! A backup taken under load, the data folder destroyed, the backup restored: everything that was acknowledged before
//! the backup is there, and the invariants hold.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use krocket_testkit::Process;
use krocket_testkit::checker::check;
use krocket_testkit::history::{Event, History, What};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;

use crate::world::{State, World};
use crate::{KROCKET, clients, create_topics, inspect};

/// How long clients work before, between and after the backups.
const LOAD: Duration = Duration::from_millis(800);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_brings_back_what_was_acknowledged_before_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let history = Arc::new(History::default());
    let (state, world) = watch::channel(State::Down);
    let (server, kafka, http) = start(&data);
    create_topics(kafka).await;
    let mut clients = clients(&mut StdRng::seed_from_u64(7), &history, &World(world));
    state.send_replace(State::Up(kafka));

    tokio::time::sleep(LOAD).await;
    let first = create(http, &backups).await;
    tokio::time::sleep(LOAD).await;
    let begun = history.invoke();
    let second = create(http, &backups).await;
    tokio::time::sleep(LOAD).await;
    let copied = |backup: &Value| backup["copied"].as_u64().expect("a number");
    assert_eq!(copied(&first), first["bytes"], "the first copies everything");
    assert!(copied(&second) > 0 && copied(&second) < second["bytes"].as_u64().expect("bytes"), "{second}");

    server.signal(Signal::KILL);
    state.send_replace(State::Ended);
    server.wait();
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client gave up");
    }
    std::fs::remove_dir_all(&data).expect("the data folder is gone");
    krocket(&["backup", "verify", text(&backups)]);
    krocket(&["restore", text(&backups), "--data-dir", text(&data)]);

    let restored = History::default();
    let (server, kafka, http) = start(&data);
    let kept: i64 = inspect(kafka, &restored).await.iter().map(|(_, start, end)| end - start).sum();
    let mut events = before(&history.events(), begun);
    let acked: u32 =
        events.iter().map(|event| if let What::Acked { count, .. } = event.what { count } else { 0 }).sum();
    let over = history.invoke();
    events.extend(restored.events().into_iter().map(|event| later(event, over)));
    let violations = check(&events);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(acked > 200 && kept >= i64::from(acked) / 2, "{acked} acknowledged, {kept} restored");

    // It goes on from there under a lineage of its own, which shares nothing with what was copied before.
    let third = create(http, &backups).await;
    assert_eq!(copied(&third), third["bytes"]);
    assert_ne!(third["lineage"], second["lineage"]);
    server.signal(Signal::TERM);
    server.wait();
    let verdict = krocket(&["verify", "--json", "--data-dir", text(&data)]);
    assert_eq!(verdict["sound"], true, "{verdict}");
    let pruned = krocket(&["backup", "prune", text(&backups), "--keep", "1", "--json"]);
    assert_eq!(pruned["deleted"], serde_json::json!([first["id"], second["id"]]));
    krocket(&["backup", "verify", text(&backups), "--backup", third["id"].as_str().expect("an id")]);
}

#[test]
fn what_cannot_be_restored_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let (mut server, data) = (Process::serve(KROCKET, &path("data")), path("data"));
    let (_, http) = server.wait_until_ready();
    let http = http.to_string();
    let backups = path("backups");
    let run = |arguments: &[&str]| {
        let (code, _, stderr) = krocket_testkit::process::run(KROCKET, arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        stderr
    };
    assert!(run(&["backup", "list", text(&backups)]).contains("is no folder of backups"));
    assert!(run(&["verify", "--data-dir", text(&data)]).contains("is in use by another process (pid "));
    krocket(&["message", "send", "orders", "hello", "--http", &http]);
    krocket(&["backup", "create", text(&backups), "--http", &http]);
    server.signal(Signal::TERM);
    server.wait();

    assert!(run(&["restore", text(&backups), "--data-dir", text(&data)]).contains("into an empty folder"));
    assert!(run(&["restore", text(&backups), "--data-dir", text(&data), "--backup", "x"]).contains("no backup x"));
    let damaged = walk(&backups.join("segments")).pop().expect("a segment");
    let mut bytes = std::fs::read(&damaged).expect("its bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    assert!(run(&["backup", "verify", text(&backups)]).contains("is damaged: its CRC-32C is "));
    let half = path("half");
    assert!(run(&["restore", text(&backups), "--data-dir", text(&half)]).contains("is damaged"));
    // What was restored in part is not taken for a log.
    let mut server = Process::serve(KROCKET, &half);
    server.wait_for_line("was not restored to its end");
}

#[test]
fn a_damaged_log_is_found_and_what_is_lost_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path();
    let mut server = Process::serve(KROCKET, data);
    let (_, http) = server.wait_until_ready();
    let http = http.to_string();
    for number in 0..5 {
        krocket(&["message", "send", "orders", &format!("message {number}"), "--http", &http]);
    }
    server.signal(Signal::TERM);
    server.wait();
    let verify = ["verify", "--json", "--data-dir", text(data)];
    assert_eq!(krocket(&verify)["sound"], true);

    let segment = walk(&data.join("log")).pop().expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("its bytes");
    let at = bytes.windows(9).position(|window| window == b"message 3").expect("it is in the log");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let (code, stdout, stderr) = krocket_testkit::process::run(KROCKET, &verify);
    let verdict: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &verdict["sound"]), (Some(1), &Value::Bool(false)), "{verdict}");
    let lost = serde_json::json!([{"topic": "orders", "partition": 0, "first_offset": 3, "last_offset": 3}]);
    assert_eq!(verdict["lost"], lost);
    assert!(stderr.contains("records are lost to damage"), "{stderr}");

    let (_, lines, _) = krocket_testkit::process::run(KROCKET, &["dump", text(&segment), "--json"]);
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |op: &str| rows.iter().filter(|row| row["op"] == op).count();
    assert_eq!(count("damage"), 1, "{lines}");
    assert!(count("batch") >= 4, "{lines}");

    assert!(
        krocket_testkit::process::run(KROCKET, &["verify", "--rebuild-index", "--data-dir", text(data)]).0 == Some(0)
    );
    let mut server = Process::serve(KROCKET, data);
    server.wait_until_ready();
    server.signal(Signal::TERM);
    server.wait();
    let (_, stdout, _) = krocket_testkit::process::run(KROCKET, &verify);
    let verdict: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(verdict["lost"], serde_json::json!([]), "a new index does not know what was lost: {verdict}");
}

/// Events that had ended when the backup began; of a commit under way nobody knows whether it is in it.
fn before(events: &[Event], begun: u64) -> Vec<Event> {
    let known = events.iter().filter_map(|event| match event.what {
        _ if event.completed < begun => Some(event.clone()),
        What::Commit { .. } => Some(Event { completed: u64::MAX, ..event.clone() }),
        _ => None,
    });
    known.collect()
}

/// The same, after a history that ended at this tick.
fn later(event: Event, over: u64) -> Event {
    let completed = if event.completed == u64::MAX { u64::MAX } else { event.completed + over };
    Event { invoked: event.invoked + over, completed, ..event }
}

fn start(data: &Path) -> (Process, SocketAddr, SocketAddr) {
    let mut server = Process::serve(KROCKET, data);
    let (kafka, http) = server.wait_until_ready();
    (server, kafka, http)
}

async fn create(http: SocketAddr, backups: &Path) -> Value {
    let (http, backups) = (http.to_string(), text(backups).to_owned());
    let run = move || krocket(&["backup", "create", &backups, "--http", &http, "--json"]);
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// Runs the command line; what it prints, where that is JSON.
fn krocket(arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = krocket_testkit::process::run(KROCKET, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap_or(Value::Null)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// All files below a folder, in order.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
