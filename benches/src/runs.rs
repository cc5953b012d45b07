//! The results file: runs, each with its machine and its rows. A row that is measured again replaces what an older run said
//! of it, so that no single run has to take an hour, and every number stays with the run that it is from.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::results::{Line, Results};
use crate::rows;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Runs {
    /// The newest last.
    runs: Vec<Results>,
}

impl Runs {
    /// What the file has; nothing when there is none.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        serde_json::from_slice(&text).with_context(|| {
            format!("{} has no results of krocket-bench: remove it, or name another file", path.display())
        })
    }

    /// A run of which no row is left is forgotten.
    pub(crate) fn add(&mut self, results: Results) {
        for row in results.lines.iter().map(|line| &line.row) {
            self.runs.iter_mut().for_each(|run| run.forget(row));
        }
        self.runs.push(results);
        self.runs.retain(|run| !run.lines.is_empty());
    }

    /// In the order of the rows.
    pub(crate) fn lines(&self) -> Vec<&Line> {
        let rows = rows::all();
        let mut lines: Vec<&Line> = self.runs.iter().flat_map(|run| &run.lines).collect();
        lines.sort_by_key(|line| rows.iter().position(|row| row.name == line.row));
        lines
    }

    /// For a chart's subtitle.
    pub(crate) fn measured(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        for run in &self.runs {
            let one = format!("{}; medians of {} rounds", run.machine.short(), run.rounds);
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all.join(" / ")
    }
}

impl Results {
    fn forget(&mut self, row: &str) {
        let of_another = |text: &String| ![": ", " on "].iter().any(|end| text.starts_with(&format!("{row}{end}")));
        self.lines.retain(|line| line.row != row);
        self.notes.retain(of_another);
        self.failures.retain(of_another);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rounds: usize, rows: &[&str]) -> Results {
        let line = |row: &&str| {
            serde_json::json!({
                "row": row, "metric": "p99", "unit": "ms", "higher_is_better": false, "sides": [],
            })
        };
        let note = |row: &&str| format!("{row}: half");
        serde_json::from_value(serde_json::json!({
            "date": "2026-11-22T00:00:00Z", "command": "krocket-bench", "quick": false, "rounds": rounds,
            "machine": {
                "cpu": "one", "cores": 2, "memory_gib": 1.0, "kernel": "6", "disk": "ext4", "open_files": null, "java": "",
                "load_before": 0.0,
            },
            "limits": {
                "disk_sync_write_mb_s": 1.0, "disk_read_mb_s": 1.0, "fdatasync_p50_us": 1.0, "fdatasync_p99_us": 1.0,
                "loopback_tcp_mb_s": 1.0, "round_trip_p50_us": 1.0, "memcpy_mb_s": 1.0,
            },
            "notes": rows.iter().map(note).collect::<Vec<_>>(), "failures": [],
            "lines": rows.iter().map(line).collect::<Vec<_>>(),
        }))
        .expect("the form that is written")
    }

    #[test]
    fn a_row_measured_again_replaces_what_was_said_of_it() {
        let mut runs = Runs::default();
        runs.add(run(5, &["fetch cached", "fetch cold", "empty"]));
        runs.add(run(3, &["fetch cached"]));
        let rows: Vec<&str> = runs.lines().iter().map(|line| &*line.row).collect();
        assert_eq!(rows, ["fetch cached", "fetch cold", "empty"], "in the order of the table");
        assert_eq!(runs.runs[0].notes, ["fetch cold: half", "empty: half"]);
        assert_eq!(
            runs.measured(),
            "one, 2 cores, Linux 6; medians of 5 rounds / one, 2 cores, Linux 6; medians of 3 rounds"
        );
        runs.add(run(5, &["empty", "fetch cold"]));
        assert_eq!(runs.runs.len(), 2, "nothing is left of the first");
    }

    #[test]
    fn what_is_written_is_read_again_and_other_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results.json");
        assert_eq!(Runs::read(&path).expect("none yet").lines().len(), 0);
        let mut runs = Runs::default();
        runs.add(run(5, &["empty"]));
        fs::write(&path, serde_json::to_string(&runs).expect("JSON")).expect("written");
        assert_eq!(Runs::read(&path).expect("just written").lines().len(), 1);
        fs::write(&path, "{}").expect("written");
        let error = Runs::read(&path).expect_err("no runs");
        assert!(format!("{error:#}").contains("results.json has no results of krocket-bench"), "{error:#}");
    }
}
