//! `krocket-bench`: krocket and a real Apache Kafka side by side, the same load on the same machine in the same run.
//!
//! A row is measured in rounds, krocket and Kafka in turn, and its ratio is that of each round's pair. The method and
//! what each row sends are described in docs/bench/README.md.

mod batch;
mod features;
mod limits;
mod load;
mod machine;
mod measure;
mod metric;
mod process;
mod report;
mod results;
mod rows;
mod server;
mod svg;
mod transactions;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;

use crate::limits::Limits;
use crate::load::Window;
use crate::machine::Machine;
use crate::measure::{Kept, Scale};
use crate::report::SHEETS;
use crate::results::{Line, Results, Samples};
use crate::rows::Row;
use crate::server::{INTERRUPTED, Kind, Places, Server, check_interrupted};

/// krocket is started anew with an empty folder when deleted topics still hold this much.
const KROCKET_DISK: u64 = 12 << 30;
/// A run needs about this much room.
const ROOM: u64 = 20 << 30;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Only {
    Krocket,
    Kafka,
}

/// krocket measured beside Apache Kafka.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// krocket's own features instead of Kafka's: what they do and what they cost.
    #[arg(long)]
    features: bool,
    /// Short windows and two rounds: under five minutes, to be taken with a grain of salt.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name matches.
    #[arg(long, default_value = "")]
    rows: Regex,
    /// Print the names of the rows and end.
    #[arg(long)]
    list: bool,
    /// How often each row is measured [default: 5, with --quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the results go as JSON, and one SVG per table beside it [default for a whole run: docs/bench/results.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only one of the two.
    #[arg(long)]
    only: Option<Only>,
    /// The server under test [default: krocket beside this program]
    #[arg(long, value_name = "FILE")]
    krocket: Option<PathBuf>,
    /// Folder for the servers' data, on the disk to be measured [default: bench-data beside this program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[allow(clippy::print_stderr, reason = "a command-line program's own words")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[allow(clippy::print_stdout, reason = "a command-line program's own words")]
fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        rows::all().iter().for_each(|row| println!("{}", row.name));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(results)) => {
            println!("{}", report::text(&results));
            if results.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("krocket-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Option<Results>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has a parent folder")?;
    let beside = std::env::current_exe()?.parent().context("the program has a folder")?.to_owned();
    let places = Places {
        krocket: options.krocket.clone().unwrap_or_else(|| beside.join("krocket")),
        kafka_script: repository.join("tests/peers/kafka"),
        data: options.data.clone().unwrap_or_else(|| beside.join("bench-data")),
    };
    let rows: Vec<Row> = rows::all().into_iter().filter(|row| options.rows.is_match(&row.name)).collect();
    ensure!(!rows.is_empty(), "no row matches {:?}; --list prints their names", options.rows.as_str());
    if options.features {
        fs::create_dir_all(&places.data)?;
        ctrlc::set_handler(|| INTERRUPTED.store(true, SeqCst))?;
        return features::run(&places, options.quick, options.json.as_deref()).map(|()| None);
    }
    let kinds = kinds(options, &places)?;
    fs::create_dir_all(&places.data)?;
    let space = rustix::fs::statvfs(&places.data)?;
    let free = space.f_bavail * space.f_frsize;
    ensure!(free >= ROOM, "{} has {} GiB free, {} are needed", places.data.display(), free >> 30, ROOM >> 30);
    ctrlc::set_handler(|| INTERRUPTED.store(true, SeqCst))?;

    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 }).max(1);
    let seconds = |quick: f64, full: f64| Duration::from_secs_f64(if options.quick { quick } else { full });
    let scale = Scale {
        window: Window { warm_up: seconds(0.5, 2.0), length: seconds(1.5, 5.0), max_bytes: 3 << 30 },
        read_bytes: if options.quick { 800_000_000 } else { 2_000_000_000 },
    };
    let load_before = machine::load();
    if load_before > 1.0 {
        say(&format!(
            "something else runs on this machine (load {load_before:.1}): take the numbers with a grain of salt"
        ));
    }
    let mut servers = kinds.iter().map(|kind| Server::start(*kind, &places)).collect::<Result<Vec<_>>>()?;
    say("measuring the machine and warming up");
    let limits = Limits::measure(&places.data, seconds(0.5, 1.5))?;
    for server in &servers {
        measure::warm_up(server, seconds(6.0, 20.0))?;
    }
    let mut bench = Bench { rounds, scale, notes: Vec::new(), failures: Vec::new() };
    let steps = rows.len() * rounds * servers.len();
    let bar = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {eta} left  {msg}")?);
    let mut samples = Vec::new();
    for row in &rows {
        samples.push(bench.row(row, &mut servers, &bar)?);
    }
    bar.finish_and_clear();
    let limits = limits.best(Limits::measure(&places.data, seconds(0.5, 1.5))?);

    let labels: Vec<String> = servers.iter().map(|server| server.label.clone()).collect();
    let lines: Vec<Line> = rows
        .iter()
        .zip(&samples)
        .flat_map(|(row, samples)| samples.lines(row, row.own_sides().as_ref().map_or(&labels[..], |own| own), &limits))
        .collect();
    let results = Results {
        date: date(),
        command: std::env::args().skip(1).fold("krocket-bench".into(), |all, arg| format!("{all} {arg}")),
        quick: options.quick,
        rounds,
        machine: Machine::describe(&places.data, load_before),
        limits,
        notes: bench.notes,
        failures: bench.failures,
        lines,
    };
    let whole = options.rows.as_str().is_empty() && options.only.is_none() && !options.quick && kinds.len() == 2;
    if let Some(path) = options.json.clone().or_else(|| whole.then(|| repository.join("docs/bench/results.json"))) {
        save(&results, &path)?;
    }
    Ok(Some(results))
}

/// The servers to measure: without Java or Maven krocket alone, with a sentence.
fn kinds(options: &Options, places: &Places) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    if options.only != Some(Only::Kafka) {
        let krocket = &places.krocket;
        ensure!(krocket.exists(), "{} is missing: build it with make, or name it with --krocket", krocket.display());
        kinds.push(Kind::Krocket);
    }
    if options.only != Some(Only::Krocket) {
        match server::kafka_available(places) {
            Ok(()) => kinds.push(Kind::Kafka),
            Err(why) => {
                ensure!(options.only.is_none(), "Kafka can't be started here: {why}");
                say(&format!("Kafka can't be started here, krocket is measured alone: {why}"));
            }
        }
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
    fn row(&mut self, row: &Row, servers: &mut [Server], bar: &ProgressBar) -> Result<Samples> {
        let mut samples = Samples::default();
        let mut kept: Vec<Kept> = servers.iter().map(|_| Kept::default()).collect();
        for server in servers.iter_mut() {
            if server.kind == Kind::Krocket && server.disk_bytes() > KROCKET_DISK {
                server.renew()?;
            }
        }
        for round in 0..self.rounds {
            for (server, kept) in servers.iter().zip(&mut kept) {
                check_interrupted()?;
                bar.set_message(format!("{}, {}", row.name, server.label));
                bar.inc(1);
                if !row.runs_on(server.kind) {
                    continue;
                }
                match row.run(server, round, self.scale, kept) {
                    Ok(outcome) => {
                        outcome.values.into_iter().for_each(|value| samples.add(value));
                        let note = outcome.note.map(|note| format!("{}: {note}", row.name));
                        self.notes.extend(note.filter(|note| !self.notes.contains(note)));
                    }
                    Err(error) => {
                        let failure = format!("{} on {} in round {}: {error:#}", row.name, server.label, round + 1);
                        bar.suspend(|| say(&failure));
                        self.failures.push(failure);
                        process::cpu_seconds(server.aim.pid)
                            .with_context(|| format!("{} died; {}", server.label, server.last_words()))?;
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
}

fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    output.map_or_else(|_| "unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// Writes the JSON, and the charts beside it.
fn save(results: &Results, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    fs::write(path, serde_json::to_string_pretty(results)? + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    for sheet in SHEETS {
        if let Some(chart) = svg::chart(sheet, results) {
            fs::write(folder.join(format!("{}.svg", sheet.file)), chart)?;
        }
    }
    say(&format!("wrote {} and the charts beside it", path.display()));
    Ok(())
}
