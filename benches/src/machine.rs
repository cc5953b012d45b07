//! The machine, so that numbers can be compared with care.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::process::size_in;

/// What a reader has to know about the machine of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    /// File system and device of the data folder, and the disk's model where the kernel tells it.
    disk: String,
    /// Soft limit of open files, which nobody raised.
    open_files: Option<u64>,
    java: String,
    /// Load average of the last minute before anything was started: above 1, others were at work.
    pub(crate) load_before: f64,
}

/// The load average of the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}

fn field(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The mount with the longest path that holds `folder`.
fn disk(folder: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let folder = folder.canonicalize().ok()?;
    let mount = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len())?;
    let device = Path::new(mount[0]).file_name()?.to_string_lossy().into_owned();
    let model = fs::read_to_string(format!("/sys/block/{device}/device/model")).unwrap_or_default();
    Some(format!("{} on {} {}", mount[2], mount[0], model.trim()).trim().to_owned())
}

impl Machine {
    pub(crate) fn describe(folder: &Path, load_before: f64) -> Self {
        let unknown = || "unknown".to_owned();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = size_in("/proc/meminfo", "MemTotal").unwrap_or(0) as f64;
        Self {
            cpu: field(&cpu, "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: (memory / f64::from(1 << 30) * 10.0).round() / 10.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |k| k.trim().to_owned()),
            disk: disk(folder).unwrap_or_else(unknown),
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            java: first_line(Command::new("java").arg("-version")).unwrap_or_else(|| "none".into()),
            load_before,
        }
    }

    /// One line for the terminal.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, {} GiB, Linux {}, {}, {} open files allowed",
            self.cpu,
            self.cores,
            self.memory_gib,
            self.kernel,
            self.disk,
            self.open_files.map_or_else(|| "unlimited".into(), |n| n.to_string())
        )
    }

    /// For a chart's subtitle.
    pub(crate) fn short(&self) -> String {
        format!("{}, {} cores, Linux {}", self.cpu, self.cores, self.kernel)
    }
}
