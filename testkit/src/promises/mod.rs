//! Clients that use every feature and write down what they were promised, and the invariants K1, K2, K4 and K6 to K10 over it:
//! nothing early, nothing lost, nothing twice, a confirmed cancel is never delivered, a half message is invisible until its
//! commit, and each group has of every message what its nacks say. S1, S2, S4 and S6 of a share group: what was accepted never
//! comes again, and all that was not is a dead letter. Compaction never takes the last record of a key, and a log start never
//! moves back.

mod client;
mod compaction;
mod ended;
mod groups;
mod ledger;
mod retention;
mod shares;
pub mod wire;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http;
use client::Client;
use compaction::Facts;
pub use ended::Ended;
use groups::Books;
use ledger::Ledger;
pub use ledger::{Counts, Kind};
use retention::Window;
use shares::Tasks;
use wire::Read;
use world::World;

const CLIENTS: u32 = 4;
/// The topic that all clients write to, and its partitions.
const TOPIC: &str = "events";
const PARTITIONS: i32 = 3;
const RETRY: &str = "retry.billing";
const DLQ: &str = "dlq.billing";
/// How long after the last crash everything that was due may still be under way.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a delivery may be between its row and what readers see.
const SETTLED: Duration = Duration::from_secs(3);

/// What the server has to be started with. It ends in the table `kafka`, which a test may go on with.
pub const CONFIG: &str = r#"
[[retry]]
groups = ["billing"]
backoff = { steps = ["150ms", "400ms"] }
max_attempts = 2

[[retry]]
groups = ["eager"]
backoff = { steps = ["50ms", "100ms"] }
max_attempts = 2

[[retry]]
groups = ["patient"]
backoff = { initial = "200ms", multiplier = 2.0, max = "1s", jitter = 0.2 }
max_attempts = 1

[kafka]
"group.share.min.record.lock.duration.ms" = 1000
"group.share.record.lock.duration.ms" = 1000
"log.retention.check.interval.ms" = 250
"#;

/// Segments as small as a configuration may have them, so that the log is cleaned, and an index that is written often.
pub const SMALL: &str = r#"
[log]
segment_bytes = "1MiB"
index_memtable_bytes = "1MiB"
index_flush_bytes = "1MiB"
"#;

/// What a crash may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Whatever was written: a process was killed. acks=1 is a promise.
    Writes,
    /// What was synced: the power went. Only acks=all is.
    Syncs,
}

/// The clients, at work whenever there is a server.
pub struct Load {
    ledger: Arc<Mutex<Ledger>>,
    books: Arc<Mutex<Books>>,
    tasks: Arc<Mutex<Tasks>>,
    facts: Arc<Mutex<Facts>>,
    window: Arc<Mutex<Window>>,
    /// Where the server is, for those who send messages.
    senders: watch::Sender<Option<SocketAddr>>,
    clients: JoinSet<()>,
    /// The groups go on when everybody else has ended.
    groups: watch::Sender<Option<SocketAddr>>,
    consumers: JoinSet<()>,
}

impl Load {
    /// Creates the topics and starts the clients, as busy as they can be.
    pub async fn start(address: SocketAddr, rng: &mut StdRng, survives: Survives) -> Self {
        Load::start_paced(address, rng, survives, Duration::ZERO).await
    }

    /// The same, with a pause after each step of each client.
    pub async fn start_paced(address: SocketAddr, rng: &mut StdRng, survives: Survives, pause: Duration) -> Self {
        wire::create_topic(address, TOPIC, PARTITIONS).await;
        wire::create_topic(address, groups::WORK, groups::PARTITIONS).await;
        wire::ask_for(address, RETRY).await;
        shares::set_up(address).await;
        compaction::set_up(address).await;
        retention::set_up(address).await;
        let acks = if survives == Survives::Writes { 1 } else { -1 };
        let (ledger, books) = (Arc::new(Mutex::new(Ledger::new(acks))), Arc::new(Mutex::new(Books::new(acks))));
        let tasks = Arc::new(Mutex::new(Tasks::new(survives)));
        let (facts, window) = (Arc::default(), Arc::new(Mutex::new(Window::new(survives))));
        let (senders, to_senders) = World::new(address);
        let (groups, to_groups) = World::new(address);
        let (mut clients, mut consumers) = (JoinSet::new(), JoinSet::new());
        for style in &groups::STYLES {
            wire::ask_for(address, style.source).await;
            wire::ask_for(address, &style.retry()).await;
            consumers.spawn(groups::consume(style, to_groups.clone(), books.clone()));
        }
        for id in 0..CLIENTS {
            clients.spawn(Client::new(id, rng.random(), ledger.clone(), pause).run(to_senders.clone()));
        }
        clients.spawn(groups::produce(to_senders.clone(), books.clone(), pause));
        for id in 0..shares::MEMBERS {
            consumers.spawn(shares::work(id, rng.random(), to_groups.clone(), tasks.clone(), pause));
        }
        clients.spawn(shares::produce(to_senders.clone(), tasks.clone(), acks, pause));
        clients.spawn(compaction::produce(rng.random(), to_senders.clone(), Arc::clone(&facts), acks, pause));
        clients.spawn(retention::produce(rng.random(), to_senders, window.clone(), acks, pause));
        Load { ledger, books, tasks, facts, window, senders, clients, groups, consumers }
    }

    /// There is no server.
    pub fn down(&self) {
        self.senders.send_replace(None);
        self.groups.send_replace(None);
    }

    /// There is one again.
    pub fn up(&self, address: SocketAddr) {
        self.tasks.lock().next_life();
        self.senders.send_replace(Some(address));
        self.groups.send_replace(Some(address));
    }

    /// Holds what can be read against what was promised; what is on its way may be nowhere for as long as a disk fails.
    pub async fn look(&self, address: SocketAddr, web: SocketAddr) -> Result<(), String> {
        look(address, web, &self.ledger, false).await?;
        self.look_kept(address).await
    }

    async fn look_kept(&self, address: SocketAddr) -> Result<(), String> {
        shares::check(address, &self.tasks, false).await?;
        compaction::check(address, &self.facts).await?;
        retention::check(address, &self.window).await.map(drop)
    }

    /// Holds what is there against what was promised, while the clients are down.
    pub async fn check(&mut self, address: SocketAddr, web: SocketAddr) -> Result<(), String> {
        look(address, web, &self.ledger, false).await?;
        self.look_kept(address).await?;
        let deadline = Instant::now() + SETTLED;
        loop {
            match groups::check(address, web, &self.books, false).await {
                Err(late) if late.starts_with("late") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => {
                    outcome?;
                    break;
                }
            }
        }
        match self.clients.try_join_next().or_else(|| self.consumers.try_join_next()) {
            Some(ended) => Err(format!("a client gave up: {ended:?}")),
            None => Ok(()),
        }
    }

    /// Nobody sends anything from now on, and the groups are down.
    pub async fn end_sending(&mut self) {
        self.senders = watch::channel(None).0;
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client gave up");
        }
        self.groups.send_replace(None);
    }

    /// After [`Load::end_sending`]: waits until nothing is on its way any more, and everything has to be there.
    pub async fn finish(mut self, address: SocketAddr, web: SocketAddr) -> Result<(Counts, Ended), String> {
        self.groups.send_replace(Some(address));
        self.tasks.lock().next_life();
        let worked = groups::check_all(address, web, &self.books).await?;
        let shared = shares::check_all(address, &self.tasks).await?;
        drop(self.groups);
        while let Some(ended) = self.consumers.join_next().await {
            ended.expect("no consumer gave up");
        }
        // Nothing is done twice meanwhile.
        shares::check(address, &self.tasks, true).await?;
        let compacted = compaction::check(address, &self.facts).await?;
        let gone = retention::check(address, &self.window).await?;
        let ended = Ended::new(worked, shared, compacted, gone);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match look(address, web, &self.ledger, true).await {
                Ok(()) => return Ok((self.ledger.lock().counts(), ended)),
                // Something may still be due.
                Err(missing) if missing.starts_with("K7") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(violation) => return Err(violation),
            }
        }
    }
}

/// Reads all there is and holds it against what was promised; at the end of a life everything has to be there.
async fn look(address: SocketAddr, web: SocketAddr, ledger: &Mutex<Ledger>, all: bool) -> Result<(), String> {
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        records.extend(wire::read_all(address, TOPIC, partition).await);
    }
    for topic in [RETRY, DLQ] {
        records.extend(wire::read_all(address, topic, 0).await);
    }
    ledger.lock().check(&records, all)?;
    if all {
        for record in records.iter().step_by(records.len() / 20 + 1) {
            let (_, body) = http::get(web, &format!("/v1/messages/{}", record.id())).await;
            if serde_json::from_str::<Value>(&body).ok().as_ref() != Some(&as_json(record)) {
                return Err(format!("K10: look-up of {} says {body}, fetch says {record:?}", record.id()));
            }
            let uniq = record.headers.iter().find_map(|(name, value)| value.as_ref().filter(|_| name == "UNIQ_KEY"));
            let Some(uniq) = uniq else { continue };
            // The index is built behind the produce path.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let (_, body) = http::get(web, &format!("/v1/messages?uniq_key={uniq}")).await;
                let found: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
                let items = found["items"].as_array().cloned().unwrap_or_default();
                if items.contains(&as_json(record)) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("K10: look-up of {uniq} says {body}, fetch says {record:?}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

/// A record as the look-up shows it.
fn as_json(record: &Read) -> Value {
    let header = |(name, value): &(String, Option<String>)| match value {
        Some(value) => json!({ "name": name, "value": value }),
        None => json!({ "name": name }),
    };
    let headers: Vec<Value> = record.headers.iter().map(header).collect();
    let (id, timestamp) = (record.id(), record.timestamp);
    let mut shown = json!({
        "id": id, "timestamp_ms": timestamp, "hidden": false, "value": record.value, "headers": headers,
    });
    if let Some(key) = &record.key {
        shown["key"] = json!(key);
    }
    shown
}
