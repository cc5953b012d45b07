//! Driver of the rdkafka crate: runs the cases named by its arguments.
mod cases;
mod client;
mod group;

use std::env;
use std::process::exit;

use anyhow::Result;
use cases::{Cases, Skip};
use client::Client;

fn main() -> Result<()> {
    let scenario: serde_json::Value = serde_json::from_slice(&std::fs::read(env::var("KROCKET_SCENARIO")?)?)?;
    let group = &scenario["group"];
    let number = |name: &str| group[name].as_u64().unwrap_or_default();
    let client = Client::new(&env::var("KROCKET_BOOTSTRAP")?, number("session_timeout_ms"), number("heartbeat_ms"))?;
    let cases = Cases { client, scenario, prefix: env::var("KROCKET_PREFIX")? };
    let name = env::var("KROCKET_CLIENT")?;
    let asked: Vec<String> = env::args().skip(1).collect();
    let mut prepared = if asked.iter().any(|c| c == "compacted") { cases.prepare_compacted() } else { Ok(()) };
    let mut failed = false;
    for case in &asked {
        let result = match case.as_str() {
            "compacted" if prepared.is_err() => std::mem::replace(&mut prepared, Ok(())),
            case => cases.run(case),
        };
        match result {
            Ok(()) => println!("PASS {name} {case}"),
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(skip) => println!("SKIP {name} {case}: {skip}"),
                None => {
                    failed = true;
                    println!("FAIL {name} {case}: {}", format!("{error:#}").lines().next().unwrap_or_default());
                }
            },
        }
    }
    exit(if failed { 1 } else { 0 });
}
