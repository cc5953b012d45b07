//! What the kernel says about a process.

use std::fs;

use anyhow::{Context, Result};

/// CPU seconds (user and system) of a process since it started.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15 of the whole line.
    let rest = stat.rsplit_once(')').context("unexpected /proc/PID/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| -> Result<f64> { Ok(fields.get(i).context("short /proc/PID/stat")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
}

/// A size in a file of /proc with lines as `VmRSS:   1234 kB`, in bytes.
pub(crate) fn size_in(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.with_context(|| format!("no {name} in {path}"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

fn size(pid: u32, name: &str) -> Result<f64> {
    Ok(size_in(&format!("/proc/{pid}/status"), name)? as f64)
}

/// Peak resident memory in bytes (VmHWM) since the process started or since [`reset_peak`].
pub(crate) fn peak_memory(pid: u32) -> Result<f64> {
    size(pid, "VmHWM")
}

/// Resident memory now in bytes, without pages of files (RssAnon).
pub(crate) fn anonymous_memory(pid: u32) -> Result<f64> {
    size(pid, "RssAnon")
}

/// Resident memory now in bytes (VmRSS).
pub(crate) fn resident_memory(pid: u32) -> Result<f64> {
    size(pid, "VmRSS")
}

/// Seconds since the process was started.
pub(crate) fn age(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let rest = stat.rsplit_once(')').context("unexpected /proc/PID/stat")?.1;
    let started: f64 = rest.split_whitespace().nth(19).context("short /proc/PID/stat")?.parse()?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let now: f64 = uptime.split_whitespace().next().context("empty /proc/uptime")?.parse()?;
    Ok(now - started / rustix::param::clock_ticks_per_second() as f64)
}

/// Lets the peak start again from now; false where the kernel doesn't allow it.
pub(crate) fn reset_peak(pid: u32) -> bool {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

/// Bytes that a process has caused to be read from storage, as opposed to the page cache.
pub(crate) fn storage_read(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own() {
        let pid = std::process::id();
        let before = cpu_seconds(pid).expect("stat");
        let mut sum = 0u64;
        while cpu_seconds(pid).expect("stat") < before + 0.02 {
            sum = (0..100_000u64).fold(sum, |a, b| std::hint::black_box(a ^ b));
        }
        let anonymous = anonymous_memory(pid).expect("status");
        assert!(anonymous > 1e4 && peak_memory(pid).expect("status") > anonymous);
    }
}
