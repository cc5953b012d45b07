//! What a server takes while nothing happens, and how long it takes to start; each measured on a server of its own.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::crowd::Crowd;
use crate::load::{Stream, Window, prepared};
use crate::measure::{Outcome, PARTITIONS, Scale, Value, configs, new_batch, verify};
use crate::metric::Metric;
use crate::process::{age, cpu_seconds, resident_memory};
use crate::rows::{BATCH, Standing, WIDE_PARTITIONS, WIDE_TOPICS};
use crate::server::{Kind, Places, Server, check_interrupted};
use crate::wire::{self, Connection};

const CONNECTIONS: usize = 10_000;
const GROUPS: usize = 1_000;
/// Files that a server and this program have open besides connections.
const OTHER_FILES: usize = 500;
/// How long a server has before it counts as idle.
const REST: Duration = Duration::from_secs(5);
const MIB: f64 = (1 << 20) as f64;

/// Values of one server.
struct Values<'a> {
    label: &'a str,
    outcome: Outcome,
}

impl Values<'_> {
    fn add(&mut self, metric: Metric, value: f64) {
        self.outcome.values.push(Value { side: self.label.to_owned(), metric, value });
    }

    /// Memory and CPU of a server that has nothing to do, some time after it had.
    fn rest(&mut self, server: &Server, idle: Duration, meanwhile: impl FnOnce(Duration) -> Result<()>) -> Result<()> {
        thread::sleep(REST.min(idle));
        check_interrupted()?;
        let (cpu, start) = (cpu_seconds(server.aim.pid)?, Instant::now());
        meanwhile(idle)?;
        let share = (cpu_seconds(server.aim.pid)? - cpu) / start.elapsed().as_secs_f64();
        self.add(Metric::IdleCpu, share * 100.0);
        self.add(Metric::RestMebibytes, resident_memory(server.aim.pid)? / MIB);
        Ok(())
    }

    /// Kills it and starts it again.
    fn crash(&mut self, server: &mut Server, topic: &str) -> Result<()> {
        server.crash()?;
        self.started(server, topic)
    }

    /// How long ago a server that just answered was started, and when it takes a record.
    fn started(&mut self, server: &Server, topic: &str) -> Result<()> {
        self.add(Metric::Start, age(server.aim.pid)?);
        let batch = new_batch(1000, 1);
        let patience = Instant::now() + Duration::from_secs(120);
        // Kafka answers before its partitions have a leader.
        while let Err(error) =
            Connection::open(server.aim.address).and_then(|mut to| wire::produce(&mut to, topic, 0, 1, &batch))
        {
            ensure!(Instant::now() < patience, "{topic} cannot be written after the start: {error:#}");
            thread::sleep(Duration::from_millis(10));
        }
        self.add(Metric::StartToProduce, age(server.aim.pid)?);
        Ok(())
    }
}

fn sleep(idle: Duration) -> Result<()> {
    thread::sleep(idle);
    check_interrupted()
}

impl Standing {
    pub(crate) fn run(self, kind: Kind, label: &str, places: &Places, scale: Scale) -> Result<Outcome> {
        let server = Server::start(kind, places)?;
        let mut values = Values { label, outcome: Outcome::default() };
        match self {
            Self::Empty => {
                values.add(Metric::Start, age(server.aim.pid)?);
                values.rest(&server, scale.idle, sleep)?;
            }
            Self::Partitions => many_partitions(&mut values, server, scale)?,
            Self::Connections => connections(&mut values, &server, scale)?,
            Self::Log => log(&mut values, server, places, scale)?,
        }
        Ok(values.outcome)
    }
}

/// Each has a batch or more.
fn many_partitions(values: &mut Values<'_>, mut server: Server, scale: Scale) -> Result<()> {
    let mut admin = Connection::open(server.aim.address)?;
    let topics: Vec<String> = (0..WIDE_TOPICS).map(|i| format!("wide-{i:04}")).collect();
    for topics in topics.chunks(100) {
        wire::create_topics(&mut admin, topics, WIDE_PARTITIONS, configs(server.kind, 1))?;
    }
    let prepared = prepared(new_batch(1000, 1), 1, &topics, WIDE_PARTITIONS)?;
    let window = Window { warm_up: Duration::ZERO, ..scale.window };
    let (_, acknowledged) = Stream::new(&prepared, 4).run(server.aim, window)?;
    verify(&mut admin, &topics, WIDE_PARTITIONS, acknowledged)?;
    values.rest(&server, scale.idle, sleep)?;
    values.crash(&mut server, &topics[0])
}

fn connections(values: &mut Values<'_>, server: &Server, scale: Scale) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let allowed = limit.maximum.map_or(usize::MAX, |most| most as usize);
    let count = CONNECTIONS.min(allowed.saturating_sub(OTHER_FILES));
    if count < CONNECTIONS {
        values.outcome.note = Some(format!("{count} connections: no more files may be open"));
    }
    thread::sleep(REST.min(scale.idle));
    let before = resident_memory(server.aim.pid)?;
    let mut crowd = Crowd::open(server.aim.address, count, GROUPS)?;
    values.rest(server, scale.idle, |idle| crowd.stay(idle))?;
    let more = (resident_memory(server.aim.pid)? - before).max(0.0);
    values.add(Metric::KibibytesPerConnection, more / count as f64 / 1024.0);
    Ok(())
}

/// A tenth of the free disk stays free; the servers' logs are never there together. What the kernel keeps of a log in
/// memory it may keep, as after a real crash of the process.
fn log(values: &mut Values<'_>, mut server: Server, places: &Places, scale: Scale) -> Result<()> {
    let space = rustix::fs::statvfs(&places.data)?;
    let bytes = scale.log_bytes.min(space.f_bavail * space.f_frsize / 10 * 9);
    let mut admin = Connection::open(server.aim.address)?;
    let topics = ["long".to_owned()];
    wire::create_topics(&mut admin, &topics, PARTITIONS, configs(server.kind, 1))?;
    let prepared = prepared(new_batch(1000, BATCH), 1, &topics, PARTITIONS)?;
    let window = Window { warm_up: Duration::ZERO, length: Duration::from_secs(3600), max_bytes: bytes };
    let (_, acknowledged) = Stream::new(&prepared, 4).run(server.aim, window)?;
    verify(&mut admin, &topics, PARTITIONS, acknowledged)?;
    values.outcome.note = Some(format!("{:.0} GB of log", bytes as f64 / 1e9));
    values.crash(&mut server, &topics[0])?;
    verify(&mut Connection::open(server.aim.address)?, &topics, PARTITIONS, acknowledged + 1)?;
    values.rest(&server, scale.idle, sleep)
}
