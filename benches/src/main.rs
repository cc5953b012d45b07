//! `krocket-bench`: krocket and a real Apache Kafka side by side, the same load on the same machine in the same run;
//! then krocket's features beside a real RocketMQ.
//!
//! A row is measured in rounds, the servers in turn, and a ratio is that of each round's pair. The method and
//! what each row sends are described in docs/bench/README.md.

mod batch;
mod crowd;
mod features;
mod knee;
mod limits;
mod load;
mod machine;
mod measure;
mod memory;
mod metric;
mod pipeline;
mod process;
mod reading;
mod report;
mod results;
mod rows;
mod runs;
mod server;
mod share;
mod standing;
mod svg;
mod transactions;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;
use serde::Serialize;

use crate::limits::Limits;
use crate::load::Window;
use crate::machine::Machine;
use crate::measure::{Kept, Scale, Value};
use crate::metric::Metric;
use crate::report::SHEETS;
use crate::results::{Line, Results, Samples};
use crate::rows::{Row, Work};
use crate::runs::Runs;
use crate::server::{INTERRUPTED, Kind, Places, Server, check_interrupted};

/// krocket is started anew with an empty folder when deleted topics still hold this much.
const KROCKET_DISK: u64 = 12 << 30;
/// A whole run needs about this much room.
const ROOM: u64 = 20 << 30;
/// A quick one, or some of its rows.
const LITTLE_ROOM: u64 = 6 << 30;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Only {
    Krocket,
    Kafka,
    Nisshi,
    Rocketmq,
}

/// krocket measured beside Apache Kafka, and its features beside Apache RocketMQ.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// Only the rows of krocket's features, beside RocketMQ: what they do and what they cost.
    #[arg(long)]
    features: bool,
    /// One row of each kind, short windows, small counts and two rounds: under five minutes, to be taken with a grain
    /// of salt. The features only with --features.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name matches, the features' among them.
    #[arg(long, default_value = "")]
    rows: Regex,
    /// Print the names of the rows and end.
    #[arg(long)]
    list: bool,
    /// How often each row is measured [default: 5, with --quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Size of the log that a server is killed with, GB; at most 90 % of the free disk.
    #[arg(long, default_value_t = 10)]
    log_gb: u64,
    /// Where the results go as JSON, one SVG per table and the features' features.json beside it. What the file says of
    /// other rows stays, with the run that it is from
    /// [default for a whole run: docs/bench/results.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only one of the servers.
    #[arg(long)]
    only: Option<Only>,
    /// The server under test [default: krocket beside this program]
    #[arg(long, value_name = "FILE")]
    krocket: Option<PathBuf>,
    /// Nisshi (the former Tansu), measured too in the rows that it can do; tests/peers/nisshi builds it.
    #[arg(long, value_name = "FILE")]
    nisshi: Option<PathBuf>,
    /// Folder for the servers' data, on the disk to be measured [default: bench-data beside this program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[allow(clippy::print_stderr, reason = "a command-line program's own words")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

#[allow(clippy::print_stdout, reason = "a command-line program's own words")]
fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        let (rows, features) = chosen(&options);
        let names = rows.into_iter().map(|row| row.name).chain(features.into_iter().map(|row| row.name));
        names.for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("krocket-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The rows beside Kafka and those of the features that the options leave.
fn chosen(options: &Options) -> (Vec<Row>, Vec<features::Row>) {
    let mut rows: Vec<Row> = rows::all().into_iter().filter(|row| options.rows.is_match(&row.name)).collect();
    if options.quick && options.rows.as_str().is_empty() {
        rows.retain(|row| row.quick);
    }
    let mut features = features::rows(options.quick);
    features.retain(|row| options.rows.is_match(&row.name));
    if options.quick && options.rows.as_str().is_empty() && !options.features && options.only != Some(Only::Rocketmq) {
        features.clear();
    }
    if options.features || options.only == Some(Only::Rocketmq) {
        rows.clear();
    }
    if matches!(options.only, Some(Only::Kafka | Only::Nisshi)) {
        features.clear();
    }
    (rows, features)
}

/// Everything that the options ask for; whether all of it went well.
#[allow(clippy::print_stdout, reason = "a command-line program's own words")]
fn run(options: &Options) -> Result<bool> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has a parent folder")?;
    let beside = std::env::current_exe()?.parent().context("the program has a folder")?.to_owned();
    let places = Places {
        krocket: options.krocket.clone().unwrap_or_else(|| beside.join("krocket")),
        kafka_script: repository.join("tests/peers/kafka"),
        nisshi: options.nisshi.as_deref().map(nisshi).transpose()?,
        rocketmq_script: repository.join("tests/peers/rocketmq"),
        rocketmq_program: repository.join("benches/rocketmq/Bench.java"),
        data: options.data.clone().unwrap_or_else(|| beside.join("bench-data")),
    };
    let (rows, features) = chosen(options);
    ensure!(!rows.is_empty() || !features.is_empty(), "no row is left; --list prints the names of the rows");
    let krocket = &places.krocket;
    let sides = features::Sides {
        krocket: matches!(options.only, None | Some(Only::Krocket)),
        rocketmq: matches!(options.only, None | Some(Only::Rocketmq)),
    };
    if sides.krocket {
        ensure!(krocket.exists(), "{} is missing: build it with make, or name it with --krocket", krocket.display());
    }
    fs::create_dir_all(&places.data)?;
    ctrlc::set_handler(|| INTERRUPTED.store(true, SeqCst))?;
    let whole = options.rows.as_str().is_empty() && options.only.is_none() && !options.quick;
    let json = options.json.clone().or_else(|| whole.then(|| repository.join("docs/bench/results.json")));
    // A run without the other server is not one to show, unless somebody asks for it.
    let path = |complete: bool| json.as_ref().filter(|_| complete || options.json.is_some());
    let mut fine = true;
    if !rows.is_empty() {
        // Before anything is measured: it may not be such a file.
        let mut runs = json.as_deref().map(Runs::read).transpose()?.unwrap_or_default();
        let results = beside_kafka(options, &places, &rows)?;
        println!("{}", report::text(&results));
        fine &= results.failures.is_empty();
        let complete = results.lines.iter().flat_map(|line| &line.sides).any(|side| side.label.starts_with("Kafka"));
        if let Some(path) = path(complete) {
            runs.add(results);
            save(&runs, path)?;
        }
    }
    if !features.is_empty() {
        let results = features::run(&features, sides, &places, options.quick)?;
        fine &= results.failures.is_empty();
        if let Some(path) = path(results.rocketmq.is_some()) {
            write_json(&results, &path.with_file_name("features.json"))?;
        }
    }
    Ok(fine)
}

/// Where it is from any folder.
fn nisshi(program: &Path) -> Result<PathBuf> {
    let missing =
        || format!("{} can't be run: tests/peers/nisshi builds Nisshi and prints where it is", program.display());
    program.canonicalize().with_context(missing)
}

/// krocket and the others in turn.
fn beside_kafka(options: &Options, places: &Places, rows: &[Row]) -> Result<Results> {
    let kinds = kinds(options, places)?;
    let space = rustix::fs::statvfs(&places.data)?;
    let free = space.f_bavail * space.f_frsize;
    let room = if options.quick || !options.rows.as_str().is_empty() { LITTLE_ROOM } else { ROOM };
    ensure!(free >= room, "{} has {} GiB free, {} are needed", places.data.display(), free >> 30, room >> 30);

    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 }).max(1);
    let seconds = |quick: f64, full: f64| Duration::from_secs_f64(if options.quick { quick } else { full });
    let scale = Scale {
        window: Window { warm_up: seconds(0.5, 2.0), length: seconds(1.5, 5.0), max_bytes: 3 << 30 },
        read_bytes: if options.quick { 800_000_000 } else { 2_000_000_000 },
        share_bytes: if options.quick { 200_000_000 } else { 500_000_000 },
        log_bytes: if options.quick { 1_000_000_000 } else { options.log_gb * 1_000_000_000 },
        idle: seconds(2.0, 20.0),
    };
    let load_before = machine::load();
    if load_before > 1.0 {
        say(&format!(
            "something else runs on this machine (load {load_before:.1}): take the numbers with a grain of salt"
        ));
    }
    let mut servers = kinds.iter().map(|kind| Server::start(*kind, places)).collect::<Result<Vec<_>>>()?;
    say("measuring the machine and warming up");
    let limits = Limits::measure(&places.data, seconds(0.5, 1.5))?;
    for server in &servers {
        measure::warm_up(server, places, seconds(6.0, 20.0))?;
    }
    let mut bench = Bench { rounds, scale, notes: Vec::new(), failures: Vec::new() };
    let steps = rows.len() * rounds * servers.len();
    let bar = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {eta} left  {msg}")?);
    let mut samples = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        if bar.is_hidden() {
            say(&format!("[{}/{}] {}", number + 1, rows.len(), row.name));
        }
        match bench.row(row, &mut servers, places, &bar) {
            Ok(more) => samples.push(more),
            // The rows before it are worth having.
            Err(error) => {
                bench.failed(format!("{}: {error:#}; no row after it was measured", row.name), &bar);
                break;
            }
        }
    }
    bar.finish_and_clear();
    let limits = limits.best(Limits::measure(&places.data, seconds(0.5, 1.5))?);

    let labels: Vec<String> = servers.iter().map(|server| server.label.clone()).collect();
    let lines: Vec<Line> = rows
        .iter()
        .zip(&samples)
        .flat_map(|(row, samples)| samples.lines(row, row.own_sides().as_ref().map_or(&labels[..], |own| own), &limits))
        .collect();
    Ok(Results {
        date: date(),
        command: command(),
        quick: options.quick,
        rounds,
        machine: Machine::describe(&places.data, load_before),
        limits,
        notes: bench.notes,
        failures: bench.failures,
        lines,
    })
}

/// The servers to measure: without Java or Maven krocket alone, with a sentence.
fn kinds(options: &Options, places: &Places) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    if matches!(options.only, None | Some(Only::Krocket)) {
        kinds.push(Kind::Krocket);
    }
    if matches!(options.only, None | Some(Only::Kafka)) {
        match server::kafka_available(places) {
            Ok(()) => kinds.push(Kind::Kafka),
            Err(why) => {
                ensure!(options.only.is_none(), "Kafka can't be started here: {why}");
                say(&format!("Kafka can't be started here, krocket is measured alone: {why}"));
            }
        }
    }
    match (&options.nisshi, options.only) {
        (Some(_), None | Some(Only::Nisshi)) => kinds.push(Kind::Nisshi),
        (None, Some(Only::Nisshi)) => bail!("name Nisshi's program with --nisshi"),
        _ => {}
    }
    Ok(kinds)
}

struct Bench {
    rounds: usize,
    scale: Scale,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Bench {
    /// All rounds of a row. A measurement that fails is reported and the run goes on, unless a server is gone.
    fn row(&mut self, row: &Row, servers: &mut [Server], places: &Places, bar: &ProgressBar) -> Result<Samples> {
        let mut samples = Samples::default();
        let mut kept: Vec<Kept> = servers.iter().map(|_| Kept::default()).collect();
        for server in servers.iter_mut() {
            if server.kind == Kind::Krocket && server.disk_bytes() > KROCKET_DISK {
                server.renew()?;
            }
        }
        if let Work::Knee { .. } = row.work {
            bar.set_message(format!("{}, looking for it", row.name));
            if let Err(error) = self.knee(row, servers, &mut kept, &mut samples) {
                check_interrupted()?;
                self.failed(format!("{}: {error:#}", row.name), bar);
                servers.iter().try_for_each(alive)?;
                bar.inc((self.rounds * servers.len()) as u64);
                return Ok(samples);
            }
        }
        for round in 0..if row.once() { 1 } else { self.rounds } {
            for (server, kept) in servers.iter().zip(&mut kept) {
                check_interrupted()?;
                bar.set_message(format!("{}, {}", row.name, server.label));
                bar.inc(1);
                if !row.runs_on(server.kind) {
                    continue;
                }
                match row.run(server, places, round, self.scale, kept) {
                    Ok(outcome) => {
                        outcome.values.into_iter().for_each(|value| samples.add(value));
                        let note = outcome.note.map(|note| format!("{}: {note}", row.name));
                        self.notes.extend(note.filter(|note| !self.notes.contains(note)));
                    }
                    Err(error) => {
                        let failure = format!("{} on {} in round {}: {error:#}", row.name, server.label, round + 1);
                        self.failed(failure, bar);
                        alive(server)?;
                    }
                }
            }
        }
        for (server, kept) in servers.iter().zip(kept) {
            if let Err(error) = row.finish(server, kept) {
                self.failures.push(format!("{} on {}, cleaning up: {error:#}", row.name, server.label));
            }
        }
        Ok(samples)
    }

    fn failed(&mut self, failure: String, bar: &ProgressBar) {
        bar.suspend(|| say(&failure));
        self.failures.push(failure);
    }

    /// Half of the lower knee is what all servers get.
    fn knee(&self, row: &Row, servers: &[Server], kept: &mut [Kept], samples: &mut Samples) -> Result<()> {
        let mut lowest = f64::INFINITY;
        for server in servers.iter().filter(|server| row.runs_on(server.kind)) {
            let value = knee::find(server, row.acks(), self.scale.window.length)?;
            lowest = lowest.min(value);
            samples.add(Value { side: server.label.clone(), metric: Metric::Knee, value });
        }
        kept.iter_mut().for_each(|kept| kept.rate = Some(lowest / 2.0));
        Ok(())
    }
}

/// An error, with the end of its log, when the server is gone.
fn alive(server: &Server) -> Result<()> {
    process::cpu_seconds(server.aim.pid)
        .map(drop)
        .with_context(|| format!("{} died; {}", server.label, server.last_words()))
}

/// The command line of this run.
pub(crate) fn command() -> String {
    std::env::args().skip(1).fold("krocket-bench".into(), |all, arg| format!("{all} {arg}"))
}

pub(crate) fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    output.map_or_else(|_| "unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// Writes JSON to a file in a folder that need not be there yet.
pub(crate) fn write_json(results: &impl Serialize, path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(results)? + "\n";
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Writes the JSON, and the charts beside it.
fn save(runs: &Runs, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_json(runs, path)?;
    for sheet in SHEETS {
        if let Some(chart) = svg::chart(sheet, runs) {
            fs::write(folder.join(format!("{}.svg", sheet.file)), chart)?;
        }
    }
    say(&format!("wrote {} and the charts beside it", path.display()));
    Ok(())
}
