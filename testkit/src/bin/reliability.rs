//! Adds the lines that the tests of endurance wrote to docs/reliability.jsonl, in place of those of the same case, and makes
//! docs/reliability.md of all: `reliability LINES DATE`.

use std::fmt::Write;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail};
use krocket_testkit::torture::Line;
use serde::{Deserialize, Serialize};

const KEPT: &str = "docs/reliability.jsonl";
const PAGE: &str = "docs/reliability.md";
const GROUPS: [&str; 6] = ["Power loss", "kill -9", "Disk", "Time", "Load", "Input"];

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    line: Line,
    date: String,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [lines, date] = &arguments[..] else { bail!("usage: reliability LINES DATE") };
    let mut rows: Vec<Row> = match std::fs::read_to_string(KEPT) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        text => parsed(&text.with_context(|| format!("reading {KEPT}"))?)?,
    };
    for line in parsed::<Line>(&std::fs::read_to_string(lines).with_context(|| format!("reading {lines}"))?)? {
        rows.retain(|row| (&row.line.group, &row.line.case) != (&line.group, &line.case));
        rows.push(Row { line, date: date.clone() });
    }
    let place = |row: &Row| GROUPS.iter().position(|group| *group == row.line.group).unwrap_or(GROUPS.len());
    rows.sort_by_key(place);
    let kept: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    std::fs::write(KEPT, kept.join("\n") + "\n").with_context(|| format!("writing {KEPT}"))?;
    std::fs::write(PAGE, page(&rows)).with_context(|| format!("writing {PAGE}"))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a line of a test")
}

fn page(rows: &[Row]) -> String {
    let mut out = "# Reliability\n\n\
        What was done to krocket, how often, and what came of it. `make torture` wrote this page from the lines that the \
        tests\nprint; nothing here is written by hand. The invariants K1 to K11 and S1 to S6 are said in \
        [the tests](../testkit/src/promises/mod.rs) and\n[the checker](../testkit/src/checker.rs). A seed plays the same \
        load again; what a kill meets is the machine's.\n\n"
        .to_owned();
    let _ = writeln!(out, "Machine: {}.\n", machine());
    out += "| what | case | count | result | seconds | seed | on |\n|---|---|---:|---|---:|---|---|\n";
    for Row { line: Line { group, case, count, result, seconds, seed }, date } in rows {
        let seed = seed.map_or_else(String::new, |seed| format!("`{seed}`"));
        let _ = writeln!(out, "| {group} | {case} | {count} | {result} | {seconds:.0} | {seed} | {date} |");
    }
    if std::path::Path::new("docs/soak.svg").exists() {
        out += "\n![latency and memory under load](soak.svg)\n\nThe numbers: [soak.csv](soak.csv).\n";
    }
    out
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kilobytes = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, {} GB, Linux {}", kilobytes.unwrap_or(0) / 1_000_000, kernel.trim())
}
