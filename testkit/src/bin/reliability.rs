//! Makes docs/reliability.md from the lines that the tests of endurance wrote: `reliability LINES OUTPUT DATE`.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use krocket_testkit::torture::Line;

const GROUPS: [&str; 6] = ["Power loss", "kill -9", "Disk", "Time", "Load", "Input"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [lines, output, date] = &arguments[..] else { bail!("usage: reliability LINES OUTPUT DATE") };
    let lines = std::fs::read_to_string(lines).with_context(|| format!("reading {lines}"))?;
    let lines: Vec<Line> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a line of a test")?;
    std::fs::write(output, page(&lines, date)).with_context(|| format!("writing {output}"))
}

fn page(lines: &[Line], date: &str) -> String {
    let mut out = "# Reliability\n\n\
        What was done to krocket, how often, and what came of it. `make torture` wrote this page from the lines that the \
        tests\nprint; nothing here is written by hand. The invariants K1 to K11 and S1 to S6 are said in \
        [the tests](../testkit/src/promises/mod.rs) and\n[the checker](../testkit/src/checker.rs). A seed plays the same \
        load again; what a kill meets is the machine's.\n\n"
        .to_owned();
    let _ = writeln!(out, "Machine: {}. Made {date}.\n", machine());
    let mut groups: BTreeMap<usize, Vec<&Line>> = BTreeMap::new();
    for (number, line) in lines.iter().enumerate() {
        let again = |later: &Line| (&later.group, &later.case) == (&line.group, &line.case);
        if lines[number + 1..].iter().any(again) {
            continue;
        }
        let at = GROUPS.iter().position(|group| *group == line.group).unwrap_or(GROUPS.len());
        groups.entry(at).or_default().push(line);
    }
    out += "| what | case | count | result | seconds | seed |\n|---|---|---:|---|---:|---|\n";
    for line in groups.values().flatten() {
        let Line { group, case, count, result, seconds, seed } = line;
        let seed = seed.map_or_else(String::new, |seed| format!("`{seed}`"));
        let _ = writeln!(out, "| {group} | {case} | {count} | {result} | {seconds:.0} | {seed} |");
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
