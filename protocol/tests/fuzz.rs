//! Mutations of valid input, from fixed seeds: the quick form of `make fuzz`, which runs the same functions.
//!
//! `KROCKET_FUZZ_SECONDS=60` mutates for that long per function, from a seed that is printed; `KROCKET_FUZZ_SEED` sets it.
//! `KROCKET_FUZZ_CORPUS=folder` only writes the valid inputs there, for libFuzzer to start from.
//! Inputs that once broke something lie in fuzz/crashers, what libFuzzer found worth keeping in fuzz/corpus: both are replayed
//! first.
#![allow(clippy::print_stdout)]

use std::io::Write;
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

fn run(name: &str, target: fn(&[u8]), seeds: fn(&mut StdRng) -> Vec<Vec<u8>>) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let crashers = fuzz.join("crashers").join(name);
    let mut replayed = 0;
    for file in [&crashers, &fuzz.join("corpus").join(name)].into_iter().flat_map(|it| it.read_dir()).flatten() {
        target(&std::fs::read(file.expect("entry").path()).expect("an input"));
        replayed += 1;
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
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: {replayed} inputs replayed, {executions} executions in {seconds:.1} s");
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
