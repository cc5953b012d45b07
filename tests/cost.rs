//! What a batch costs, counted rather than timed: a copy or an allocation more per batch fails here, on any machine.

#![allow(clippy::print_stderr)]

use std::alloc::System;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use krocket_testkit::Krocket;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[path = "cost/load.rs"]
mod load;

use load::Load;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What one batch may take at most, on average.
struct Bound {
    allocations: f64,
    /// Of memory that was asked for. A batch that is produced is held once, so this shows copies.
    bytes: f64,
    /// Reads and writes of files, sendfile among them.
    file_calls: f64,
}

/// Measured: 41 allocations, 84 to 96 KB (two buffers of 32 KB that a read may fill, and the batch), 1.1 to 2 calls.
const PRODUCED: Bound = Bound { allocations: 52.0, bytes: 100_000.0, file_calls: 2.5 };
/// Measured: 1.1 allocations, 17.8 KB, 0.2 calls. Batches that lie near each other are one read, and sent from there: a copy more
/// would show in the bytes.
const FETCHED: Bound = Bound { allocations: 1.5, bytes: 20_000.0, file_calls: 0.5 };
/// Beyond what is kept of the newest batches in memory.
const BATCHES: usize = 3000;

#[test]
fn a_batch_costs_no_more_than_it_did() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let krocket = runtime.block_on(Krocket::start());
    let load = Load::new("cost");
    let mut client = Client::connect(krocket.kafka);
    client.call(&load.create);

    for _ in 0..BATCHES {
        client.call(&load.produce);
    }
    check("produced", &PRODUCED, 500, || client.call(&load.produce));

    // The whole of it once: what is opened once does not count.
    client.call(&load.fetch);
    let per_fetch = load.batches_of_a_fetch();
    let answer = client.call(&load.fetch);
    assert!(answer >= per_fetch * load.len, "a fetch brings {per_fetch} batches, not {answer} bytes");
    check("fetched", &FETCHED, 20 * per_fetch, {
        let mut turn = 0;
        move || {
            if turn % per_fetch == 0 {
                client.call(&load.fetch);
            }
            turn += 1;
        }
    });
    runtime.block_on(krocket.stop());
}

fn check<T>(what: &str, bound: &Bound, batches: usize, mut each: impl FnMut() -> T) {
    let region = Region::new(ALLOCATOR);
    let calls = file_calls();
    for _ in 0..batches {
        each();
    }
    let change = region.change();
    let per_batch = |count: usize| count as f64 / batches as f64;
    let allocations = per_batch(change.allocations + change.reallocations);
    let bytes = per_batch(change.bytes_allocated);
    let calls = calls.zip(file_calls()).map(|(before, after)| per_batch(after - before));
    let told = calls.map_or_else(|| "not counted".to_owned(), |calls| format!("{calls:.2}"));
    eprintln!("{what}: {allocations:.1} allocations, {bytes:.0} bytes, file calls {told}");
    assert!(allocations <= bound.allocations, "{allocations:.1} allocations for a batch that is {what}");
    assert!(bytes <= bound.bytes, "{bytes:.0} bytes of memory for a batch that is {what}");
    assert!(calls.unwrap_or(0.0) <= bound.file_calls, "{told} file calls for a batch that is {what}");
}

/// Reads and writes of this process so far; `None` where nobody may know.
fn file_calls() -> Option<usize> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    let count = |name| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<usize>().ok());
    Some(count("syscr:")? + count("syscw:")?)
}

/// A client that allocates nothing while it is counted.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a socket option");
        Client { stream, buffer: vec![0; 4 << 20] }
    }

    /// Sends a frame and gives its answer's length.
    fn call(&mut self, frame: &Bytes) -> usize {
        self.stream.write_all(frame).expect("sends");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("a length");
        let length = u32::from_be_bytes(length) as usize;
        self.stream.read_exact(&mut self.buffer[..length]).expect("a response");
        length
    }
}
