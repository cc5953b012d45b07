//! Mutations of valid input, from fixed seeds: the quick form of `make fuzz`, which runs the same functions.
//!
//! `KROCKET_FUZZ_SECONDS=60` mutates for that long per function, from a seed that is printed; `KROCKET_FUZZ_SEED` sets it.
//! Replayed first: inputs that once broke something, fuzz/crashers, and those by which libFuzzer reached new code,
//! fuzz/corpus, a line of hex each. `KROCKET_FUZZ_CORPUS=folder` only writes the corpus and the valid inputs there, for
//! libFuzzer to start from.
#![allow(clippy::print_stdout)]

use std::io::Write;
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use krocket_protocol::records::{BatchBuilder, Codec, Header, LastOffset};
use krocket_protocol::{api, guard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[allow(unreachable_pub)]
#[path = "../../fuzz/src/mutate.rs"]
mod mutate;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use mutate::mutate;

/// Executions of the quick form.
const QUICK: u64 = 150_000;
/// Where crashers and the corpus lie.
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");

fn requests(rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for row in api::TABLE {
        for version in row.min..=row.max {
            let schema = guard::schema(row.key).expect("shape");
            let body = guard::sample::Sampler::new(|| rng.random(), true).body(schema, version);
            seeds.push([&[row.key as u8, version as u8], &body[..]].concat());
        }
    }
    seeds
}

fn headers(_: &mut StdRng) -> Vec<Vec<u8>> {
    let version = |version: u8| vec![0, 3, 0, version, 0, 0, 0, 9, 0, 4, b'k', b'c', b'a', b't', 0, 1, 2, 3];
    (0..14).map(version).chain([vec![0, 18, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 1, 100, 2, 7, 7]]).collect()
}

fn batches(_: &mut StdRng) -> Vec<Vec<u8>> {
    let valid = Codec::ALL.map(|codec| {
        let mut builder = BatchBuilder::new(0, 1_700_000_000_000).codec(codec);
        for offset in 0..5 {
            let headers = [Header { key: b"TAGS", value: Some(b"paid") }, Header { key: b"KEYS", value: None }];
            let value = [b'v'; 70];
            builder.push(
                offset,
                1_700_000_000_000 + offset,
                Some(b"key"),
                Some(&value),
                &headers[..offset as usize % 3],
            );
        }
        builder.finish(LastOffset::Trim).expect("builds").expect("records").to_vec()
    });
    valid.into_iter().chain(bombs()).collect()
}

/// Batches of a few hundred bytes, with Snappy of a few KiB, that decompress to more than is allowed.
fn bombs() -> [Vec<u8>; 4] {
    let zeros = vec![0; 2 * targets::LIMIT];
    [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].map(|codec| {
        let mut builder = BatchBuilder::new(0, 1_700_000_000_000).codec(codec);
        builder.push(0, 1_700_000_000_000, None, Some(&zeros), &[]);
        builder.finish(LastOffset::Trim).expect("builds").expect("records").to_vec()
    })
}

/// What libFuzzer kept; nothing when there is no such file.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(FUZZ).join("corpus").join(name).with_extension("hex");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("two hex digits");
    let lines = std::fs::read_to_string(path).unwrap_or_default();
    lines.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// Runs the target and names the input that broke it.
fn attempt(target: fn(&[u8]), input: &[u8], name: impl FnOnce() -> String) {
    if let Err(panic) = catch_unwind(|| target(input)) {
        println!("broken by {}", name());
        resume_unwind(panic);
    }
}

fn run(name: &str, target: fn(&[u8]), seeds: fn(&mut StdRng) -> Vec<Vec<u8>>) {
    let corpus = corpus(name);
    let seconds = std::env::var("KROCKET_FUZZ_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let seed = match std::env::var("KROCKET_FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("seed"),
        Err(_) if seconds.is_some() => rand::random(),
        Err(_) => 1,
    };
    println!("{name}: seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let seeds = seeds(&mut rng);
    if let Ok(folder) = std::env::var("KROCKET_FUZZ_CORPUS") {
        let folder = Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).expect("corpus folder");
        for (at, input) in corpus.iter().chain(&seeds).enumerate() {
            std::fs::write(folder.join(at.to_string()), input).expect("input");
        }
        return;
    }

    let crashers = Path::new(FUZZ).join("crashers").join(name);
    let files: Vec<_> = crashers.read_dir().into_iter().flatten().map(|file| file.expect("entry").path()).collect();
    for path in &files {
        attempt(target, &std::fs::read(path).expect("an input"), || path.display().to_string());
    }
    assert!(!corpus.is_empty(), "fuzz/corpus/{name}.hex is missing or empty; `make fuzz` with libFuzzer writes it");
    for (at, input) in corpus.iter().enumerate() {
        attempt(target, input, || format!("fuzz/corpus/{name}.hex, line {}", at + 1));
    }
    seeds.iter().for_each(|seed| target(seed));
    // Not captured: `make test` shows it.
    let replayed = format!("{name}: {} inputs of the corpus and {} crashers replayed", corpus.len(), files.len());
    writeln!(std::io::stderr(), "{replayed}").expect("it can be written");

    let start = Instant::now();
    let mut executions = 0u64;
    let mut last = Vec::new();
    while seconds.map_or(executions < QUICK, |seconds| start.elapsed() < Duration::from_secs(seconds)) {
        last.clone_from(&seeds[rng.random_range(0..seeds.len())]);
        mutate(&mut last, &mut rng);
        if let Err(panic) = catch_unwind(|| target(&last)) {
            let path = crashers.join(format!("{seed}-{executions}"));
            let kept = std::fs::create_dir_all(&crashers).and_then(|()| std::fs::write(&path, &last));
            println!("{name}: {} ({kept:?})", path.display());
            resume_unwind(panic);
        }
        executions += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: {executions} executions in {seconds:.1} s");
    if let Some(lines) = std::env::var_os("KROCKET_TORTURE_LINES") {
        let case = format!("{name}: mutations of {} valid inputs", seeds.len());
        let line = format!(
            r#"{{"group":"Input","case":"{case}","count":{executions},"result":"no panic, no promise broken","seconds":{seconds:.1},"seed":{seed}}}"#
        );
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(lines).expect("the file of lines");
        writeln!(file, "{line}").expect("it can be written");
    }
}

#[test]
fn requests_that_pass_the_guard_decode() {
    run("request", targets::request, requests);
}

#[test]
fn headers_are_read_as_the_crate_reads_them() {
    run("header", targets::header, headers);
}

#[test]
fn batches_that_are_valid_can_be_read_and_rebuilt() {
    run("batch", targets::batch, batches);
}
