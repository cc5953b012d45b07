//! Reads a topic that was filled before.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::load::{Measured, Stream, Window, prepared, read_all};
use crate::measure::{Kept, Outcome, Scale, configs, new_batch, values, verify};
use crate::process;
use crate::rows::{BATCH, Reading};
use crate::server::Server;
use crate::wire::{self, Connection};

impl Reading {
    /// Fills the topic at first; then reads it.
    pub(crate) fn run(self, server: &Server, topic: &str, scale: Scale, kept: &mut Kept) -> Result<Outcome> {
        if kept.topics.is_empty() {
            self.fill(server, topic, scale.read_bytes, kept)?;
        }
        if self.cold {
            server.drop_cache()?;
        }
        process::reset_peak(server.aim.pid);
        let before = process::storage_read(server.aim.pid);
        let m = self.read(server, kept, scale.window.length)?;
        let from_disk = match (before, process::storage_read(server.aim.pid)) {
            (Some(before), Some(after)) => (after - before) as f64 / m.fetched_bytes,
            _ => 0.0,
        };
        let note = (self.cold && from_disk < 0.8)
            .then(|| format!("{}: warm, only {:.0} % came from disk", server.label, from_disk * 100.0));
        Ok(Outcome { values: values(server, &server.label, &m, m.fetched_records, m.fetched_bytes)?, note })
    }

    fn fill(self, server: &Server, topic: &str, bytes: u64, kept: &mut Kept) -> Result<()> {
        let mut admin = Connection::open(server.aim.address)?;
        let topics = [topic.to_owned()];
        wire::create_topics(&mut admin, &topics, self.partitions, configs(server.kind, 1))?;
        let prepared = prepared(new_batch(1000, BATCH), 1, &topics, self.partitions)?;
        let fill = Stream::new(&prepared, 4);
        let window = Window { warm_up: Duration::ZERO, length: Duration::from_secs(60), max_bytes: bytes };
        kept.records = fill.run(server.aim, window)?.1;
        verify(&mut admin, &topics, self.partitions, kept.records)?;
        kept.topics = topics.into();
        Ok(())
    }

    fn read(self, server: &Server, kept: &Kept, length: Duration) -> Result<Measured> {
        let topic = &kept.topics[0];
        // What was read once is no longer cold.
        let length = if self.cold { Duration::ZERO } else { length };
        let Some(count) = self.one_by_one else {
            let all: Vec<i32> = (0..self.partitions).collect();
            return read_all(server.aim, topic, &all, kept.records, length);
        };
        let mut admin = Connection::open(server.aim.address)?;
        let ends = wire::end_offsets(&mut admin, topic, self.partitions)?;
        let mut sum = Measured::default();
        let start = Instant::now();
        // Evenly spaced, so that they are no neighbours in the log.
        for (index, end) in ends.iter().enumerate().step_by((self.partitions as usize / count).max(1)).take(count) {
            sum.add(&read_all(server.aim, topic, &[index as i32], *end as u64, length)?);
        }
        sum.seconds = start.elapsed().as_secs_f64();
        Ok(sum)
    }
}
