//! What is read besides the wire, from mutations of valid input: the configuration, filters, HTTP. Requests, headers and
//! batches are fuzzed in protocol/tests/fuzz.rs.
//!
//! `make test` runs a fixed number from a fixed seed; with `KROCKET_FUZZ_SECONDS=60` each goes on for so long from a seed
//! that is printed. What once broke something lies in fuzz/crashers and is replayed first.

#![allow(clippy::print_stdout)]

#[allow(unreachable_pub)]
#[path = "../../fuzz/src/mutate.rs"]
mod mutate;

mod config;
mod filter;
mod http;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use krocket_testkit::torture::{Line, setting, tell};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Inputs of one kind, mutated.
struct Fuzz {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    rng: StdRng,
    seed: u64,
    quick: u64,
    seconds: Option<u64>,
    begun: Instant,
    executions: u64,
    crashers: Vec<Vec<u8>>,
}

impl Fuzz {
    fn new(name: &'static str, seeds: Vec<Vec<u8>>, quick: u64) -> Self {
        let seconds = setting("KROCKET_FUZZ_SECONDS");
        let seed = setting("KROCKET_FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { rand::random() } else { 1 });
        let kept = crashers(name).read_dir().into_iter().flatten();
        let kept = kept.map(|file| std::fs::read(file.expect("an entry").path()).expect("an input")).collect();
        let (rng, begun) = (StdRng::seed_from_u64(seed), Instant::now());
        println!("{name}: seed {seed}");
        Fuzz { name, seeds, rng, seed, quick, seconds, begun, executions: 0, crashers: kept }
    }

    /// The next input; `None` when it is enough.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(crasher) = self.crashers.pop() {
            return Some(crasher);
        }
        let enough = match self.seconds {
            Some(seconds) => self.begun.elapsed() >= Duration::from_secs(seconds),
            None => self.executions >= self.quick,
        };
        if enough {
            return None;
        }
        let mut input = self.seeds.get(self.executions as usize).cloned().unwrap_or_else(|| {
            let mut input = self.seeds[self.rng.random_range(0..self.seeds.len())].clone();
            // Two of a kind make things that neither is.
            if self.rng.random_range(0..4) == 0 {
                let other = &self.seeds[self.rng.random_range(0..self.seeds.len())];
                let (from, to) = (self.rng.random_range(0..=other.len()), self.rng.random_range(0..=input.len()));
                input.truncate(to);
                input.extend_from_slice(&other[from..]);
            }
            mutate::mutate(&mut input, &mut self.rng);
            input
        });
        input.truncate(64 << 10);
        self.executions += 1;
        Some(input)
    }

    /// Keeps what broke something, for the next run.
    fn keep(&self, input: &[u8]) -> PathBuf {
        let path = crashers(self.name).join(format!("{}-{}", self.seed, self.executions));
        let kept = std::fs::create_dir_all(crashers(self.name)).and_then(|()| std::fs::write(&path, input));
        kept.expect("it can be kept");
        path
    }

    fn report(&self, result: &str) {
        assert!(self.executions > self.seeds.len() as u64, "{}: nothing was mutated", self.name);
        let seconds = self.begun.elapsed().as_secs_f64();
        println!("{}: {} executions in {seconds:.1} s", self.name, self.executions);
        tell(&Line {
            group: "Input".to_owned(),
            case: format!("{}: mutations of {} valid inputs", self.name, self.seeds.len()),
            count: self.executions,
            result: result.to_owned(),
            seconds,
            seed: Some(self.seed),
        });
    }
}

fn crashers(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/crashers").join(name)
}
