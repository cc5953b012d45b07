//! The real program, started, signalled and waited for.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A krocket process. Killed when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Process {
    /// Starts `program` with these arguments.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Process { child, lines, seen: String::new() }
    }

    /// Starts a server on free ports.
    pub fn serve(program: &str, data_dir: &Path) -> Self {
        let data_dir = data_dir.to_str().expect("a path that is text");
        Process::start(program, &["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data_dir])
    }

    /// Waits for a line on stderr that has this text, and gives the line.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} in:\n{}", self.seen),
            }
        }
    }

    /// Waits until it serves and gives the Kafka and HTTP addresses.
    pub fn wait_until_ready(&mut self) -> (SocketAddr, SocketAddr) {
        addresses(&self.wait_for_line("krocket is ready"))
    }

    /// As [`Process::wait_until_ready`]; `None` when the process ends instead.
    pub fn ready_or_ended(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains("krocket is ready") {
                        return Some(addresses(&line));
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
        panic!("neither ready nor ended:\n{}", self.seen)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for the end; gives the status and everything on stderr.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("the child is ours") {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("still running after {PATIENCE:?}; stderr:\n{}", self.seen),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        (status, std::mem::take(&mut self.seen))
    }
}

/// The Kafka and HTTP addresses in the line that says that it is ready.
fn addresses(line: &str) -> (SocketAddr, SocketAddr) {
    let field = |name: &str| {
        let rest = &line[line.find(name).expect("the field") + name.len()..];
        rest.split_whitespace().next().expect("its value").parse().expect("an address")
    };
    (field(" kafka="), field(" http="))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end: exit code, stdout, stderr.
pub fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("the child is ours").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = child.wait().expect("it ended");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    (status.code(), out, err)
}
