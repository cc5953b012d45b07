//! Mutations of valid input, from fixed seeds: the quick form of `make fuzz`, which runs the same functions.
//!
//! `KROCKET_FUZZ_SECONDS=60` mutates for that long per function, from a seed that is printed; `KROCKET_FUZZ_SEED` sets it.
//! `KROCKET_FUZZ_CORPUS=folder` only writes the valid inputs there, for libFuzzer to start from.
//! Inputs that once broke something lie in fuzz/crashers and are replayed first.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use krocket_protocol::records::{BatchBuilder, Codec, Header, LastOffset};
use krocket_protocol::{api, guard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[allow(unreachable_pub)]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Executions of the quick form.
const QUICK: u64 = 150_000;
/// Numbers that lengths go wrong at.
const INTERESTING: [u32; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

fn requests(rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, row) in api::TABLE.iter().enumerate() {
        for version in row.min..=row.max {
            let schema = guard::schema(row.key).expect("shape");
            let body = guard::sample::Sampler::new(|| rng.random(), true).body(schema, version);
            seeds.push([&[index as u8, (version - row.min) as u8], &body[..]].concat());
        }
    }
    seeds
}

fn headers(_: &mut StdRng) -> Vec<Vec<u8>> {
    let version = |version: u8| vec![0, 3, 0, version, 0, 0, 0, 9, 0, 4, b'k', b'c', b'a', b't', 0, 1, 2, 3];
    (0..14).map(version).chain([vec![0, 18, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 1, 100, 2, 7, 7]]).collect()
}

fn batches(_: &mut StdRng) -> Vec<Vec<u8>> {
    Codec::ALL
        .map(|codec| {
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
        })
        .into()
}

fn mutate(input: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=input.len());
        let len = rng.random_range(0..=(input.len() - at).min(16));
        let number = INTERESTING[rng.random_range(0..INTERESTING.len())];
        match rng.random_range(0..7) {
            0 => input.truncate(at),
            1 => input.extend_from_within(at..at + len),
            2 => drop(input.drain(at..at + len)),
            3 => drop(input.splice(at..at + len, number.to_be_bytes())),
            4 => input.insert(at, number as u8),
            5 if at < input.len() => input[at] = rng.random(),
            _ if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            _ => {}
        }
    }
}

fn run(name: &str, target: fn(&[u8]), seeds: fn(&mut StdRng) -> Vec<Vec<u8>>) {
    let crashers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/crashers").join(name);
    for file in crashers.read_dir().into_iter().flatten() {
        target(&std::fs::read(file.expect("entry").path()).expect("a crasher"));
    }
    let seconds = std::env::var("KROCKET_FUZZ_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let seed = match std::env::var("KROCKET_FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("seed"),
        Err(_) if seconds.is_some() => rand::random(),
        Err(_) => 1,
    };
    println!("{name}: seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let seeds = seeds(&mut rng);
    seeds.iter().for_each(|seed| target(seed));
    if let Ok(corpus) = std::env::var("KROCKET_FUZZ_CORPUS") {
        let folder = Path::new(&corpus).join(name);
        std::fs::create_dir_all(&folder).expect("corpus folder");
        for (at, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{at}")), seed).expect("seed");
        }
        return;
    }
    let start = Instant::now();
    let mut executions = 0u64;
    let mut last = Vec::new();
    while seconds.map_or(executions < QUICK, |seconds| start.elapsed() < Duration::from_secs(seconds)) {
        last.clone_from(&seeds[rng.random_range(0..seeds.len())]);
        mutate(&mut last, &mut rng);
        if let Err(panic) = std::panic::catch_unwind(|| target(&last)) {
            let path = crashers.join(format!("{seed}-{executions}"));
            let kept = std::fs::create_dir_all(&crashers).and_then(|()| std::fs::write(&path, &last));
            println!("{name}: {} ({kept:?})", path.display());
            std::panic::resume_unwind(panic);
        }
        executions += 1;
    }
    println!("{name}: {executions} executions in {:.1} s", start.elapsed().as_secs_f64());
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
