//! What features cost those who don't use them.

use std::time::Duration;

use anyhow::Result;

use super::report::Numbers;
use super::{PARTITIONS, now_ms};
use crate::batch::{self, Batch};
use crate::load::{Stream, Window, prepared};
use crate::rows::BATCH;
use crate::server::{Kind, Places, Server, check_interrupted};
use crate::wire::{self, Connection};

const OFF: &str = "[[rules]]\ntopics = [\"*\"]\nfilter = false\nschedule = false\nhalf = false\nlookup = false\n";

/// Produce throughput of records of `size` bytes with features on but unused, beside features off; in turns.
pub(super) fn price(places: &Places, numbers: &mut Numbers, size: usize, quick: bool) -> Result<()> {
    let rounds = if quick { 2 } else { 5 };
    let length = Duration::from_secs_f64(if quick { 1.5 } else { 4.0 });
    let window = Window { warm_up: Duration::from_millis(700), length, max_bytes: 3 << 30 };
    let mut ratios = Vec::new();
    let mut costs = Vec::new();
    for round in 0..rounds {
        // Who goes first changes, so that neither has the fresher disk.
        let order: [usize; 2] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut both = [(0.0, 0.0); 2];
        for which in order {
            check_interrupted()?;
            let server = Server::start_with(Kind::Krocket, places, ["", OFF][which])?;
            let topics = ["plain".to_owned()];
            wire::create_topics(&mut Connection::open(server.aim.address)?, &topics, PARTITIONS, &[])?;
            let batch: Batch = batch::fill(size, BATCH, now_ms());
            let prepared = prepared(batch, 1, &topics, PARTITIONS)?;
            let (m, _) = Stream::new(&prepared, 4).run(server.aim, window)?;
            both[which] = (m.sent_bytes / m.seconds, m.server_cpu / m.sent_bytes);
        }
        ratios.push(both[0].0 / both[1].0);
        costs.push(both[0].1 / both[1].1);
    }
    ratios.sort_by(f64::total_cmp);
    costs.sort_by(f64::total_cmp);
    numbers.add("throughput, on / off", ratios[ratios.len() / 2], "");
    numbers.add("server CPU per byte, on / off", costs[costs.len() / 2], "");
    Ok(())
}
