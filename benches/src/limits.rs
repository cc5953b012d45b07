//! What the machine itself can do, measured in the same run.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use rustix::fs::{Advice, fadvise, fdatasync};
use serde::{Deserialize, Serialize};

/// Raw limits; MB are 10^6 bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// One writer, 1 MiB at a time, each followed by fdatasync.
    pub(crate) disk_sync_write_mb_s: f64,
    /// One reader of a file that isn't in the page cache, 1 MiB at a time.
    pub(crate) disk_read_mb_s: f64,
    /// Median of a 4 KiB append with fdatasync.
    pub(crate) fdatasync_p50_us: f64,
    pub(crate) fdatasync_p99_us: f64,
    /// One connection over loopback, 64 KiB at a time.
    pub(crate) loopback_tcp_mb_s: f64,
    /// Median of one byte there and back over loopback, between two threads that wait.
    pub(crate) round_trip_p50_us: f64,
    /// One thread, 64 MiB at a time.
    pub(crate) memcpy_mb_s: f64,
}

impl Limits {
    /// Measures everything; takes about six times `each`.
    pub(crate) fn measure(folder: &Path, each: Duration) -> Result<Self> {
        let path = folder.join(format!("limits-{}", std::process::id()));
        let result = disk(&path, each);
        fs::remove_file(&path)?;
        let (disk_sync_write_mb_s, disk_read_mb_s, fsyncs) = result?;
        Ok(Self {
            disk_sync_write_mb_s,
            disk_read_mb_s,
            fdatasync_p50_us: fsyncs.value_at_quantile(0.5) as f64 / 1e3,
            fdatasync_p99_us: fsyncs.value_at_quantile(0.99) as f64 / 1e3,
            loopback_tcp_mb_s: loopback(each)?,
            round_trip_p50_us: round_trip(each)?.value_at_quantile(0.5) as f64 / 1e3,
            memcpy_mb_s: memcpy(each),
        })
    }

    /// The better of two measurements: a limit is what is possible.
    pub(crate) fn best(self, other: Self) -> Self {
        Self {
            disk_sync_write_mb_s: self.disk_sync_write_mb_s.max(other.disk_sync_write_mb_s),
            disk_read_mb_s: self.disk_read_mb_s.max(other.disk_read_mb_s),
            fdatasync_p50_us: self.fdatasync_p50_us.min(other.fdatasync_p50_us),
            fdatasync_p99_us: self.fdatasync_p99_us.min(other.fdatasync_p99_us),
            loopback_tcp_mb_s: self.loopback_tcp_mb_s.max(other.loopback_tcp_mb_s),
            round_trip_p50_us: self.round_trip_p50_us.min(other.round_trip_p50_us),
            memcpy_mb_s: self.memcpy_mb_s.max(other.memcpy_mb_s),
        }
    }
}

fn rate(bytes: u64, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64()
}

fn disk(path: &Path, each: Duration) -> Result<(f64, f64, Histogram<u64>)> {
    // Zeroes would flatter a disk that compresses.
    let block: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    let (start, mut written) = (Instant::now(), 0u64);
    while start.elapsed() < each {
        file.write_all(&block)?;
        fdatasync(&file)?;
        written += block.len() as u64;
    }
    let write = rate(written, start);
    fadvise(&file, 0, None, Advice::DontNeed)?;
    fadvise(&file, 0, None, Advice::Sequential)?;
    let mut buffer = vec![0; 1 << 20];
    let (start, mut at) = (Instant::now(), 0u64);
    while at < written && start.elapsed() < each {
        file.read_exact_at(&mut buffer, at)?;
        at += buffer.len() as u64;
    }
    let read = rate(at, start);
    let mut fsyncs = Histogram::new(3)?;
    let start = Instant::now();
    while start.elapsed() < each {
        file.write_all(&block[..4096])?;
        let before = Instant::now();
        fdatasync(&file)?;
        fsyncs.record(before.elapsed().as_nanos() as u64)?;
    }
    Ok((write, read, fsyncs))
}

fn loopback(each: Duration) -> Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut out = TcpStream::connect(listener.local_addr()?)?;
    let (mut from, _) = listener.accept()?;
    let reader = thread::spawn(move || -> Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(total),
                n => total += n as u64,
            }
        }
    });
    let block = vec![7; 64 << 10];
    let start = Instant::now();
    while start.elapsed() < each {
        out.write_all(&block)?;
    }
    drop(out);
    let total = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(rate(total, start))
}

fn round_trip(each: Duration) -> Result<Histogram<u64>> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || -> Result<()> {
        let mut byte = [0];
        while far.read(&mut byte)? > 0 {
            far.write_all(&byte)?;
        }
        Ok(())
    });
    let mut times = Histogram::new(3)?;
    let start = Instant::now();
    let mut byte = [1];
    while start.elapsed() < each {
        let before = Instant::now();
        near.write_all(&byte)?;
        near.read_exact(&mut byte)?;
        times.record(before.elapsed().as_nanos() as u64)?;
    }
    drop(near);
    echo.join().map_err(|_| anyhow::anyhow!("the echo panicked"))??;
    Ok(times)
}

fn memcpy(each: Duration) -> f64 {
    let from = vec![7u8; 64 << 20];
    let mut to = vec![0u8; 64 << 20];
    let (start, mut copied) = (Instant::now(), 0);
    while start.elapsed() < each {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        copied += from.len() as u64;
    }
    rate(copied, start)
}
