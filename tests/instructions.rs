//! Instructions of a batch, counted by callgrind where valgrind is installed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};

#[path = "cost/load.rs"]
mod load;

use load::Load;

/// The difference of two numbers of them is what counts: starting costs more than all of them.
const BATCHES: usize = 1500;
/// Instructions for one batch of 16 KB that is produced and fetched. Measured: 89,000, several per cent up or down.
const BOUND: u64 = 120_000;
/// valgrind is slow, and so may be the machine.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn a_batch_takes_no_more_instructions_than_it_did() {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: valgrind is not installed");
        return;
    }
    let (none, all) = (instructions(0), instructions(BATCHES));
    let each = all.saturating_sub(none) / BATCHES as u64;
    eprintln!("{each} instructions for a batch that is produced and fetched");
    assert!(each > 1000, "{all} instructions with batches and {none} without: nothing was counted");
    assert!(each <= BOUND, "{each} instructions for a batch that is produced and fetched");
}

/// Of a whole life of krocket in which so many batches are produced, then fetched.
fn instructions(batches: usize) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path that is text").to_owned();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr()).expect("a port").port();
    let log = fs::File::create(path("log")).expect("a file");
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", path("callgrind.out"))])
        .arg(env!("CARGO_BIN_EXE_krocket"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--http", "127.0.0.1:0", "--data-dir", &path("data")])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("valgrind starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "krocket under valgrind does not answer: {error}"),
        }
        // Nothing tells when another process listens.
        std::thread::sleep(Duration::from_millis(50));
    };
    stream.set_nodelay(true).expect("a socket option");
    let load = Load::new("instructions");
    call(&mut stream, &load.create);
    for _ in 0..batches {
        call(&mut stream, &load.produce);
    }
    for _ in 0..batches / load.batches_of_a_fetch() {
        call(&mut stream, &load.fetch);
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let status = child.wait().expect("it ends");
    let said = fs::read_to_string(path("log")).expect("the log");
    assert!(status.success(), "krocket under valgrind ended with {status}:\n{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("callgrind did not say what it collected:\n{said}"))
}

fn call(stream: &mut TcpStream, frame: &Bytes) {
    stream.write_all(frame).expect("sends");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a length");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("a response");
}
