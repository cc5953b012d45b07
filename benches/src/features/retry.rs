//! Retries: every message is handed back once and comes again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;

use super::reader::Reader;
use super::report::Numbers;
use super::{PARTITIONS, PER_BATCH, memory, now_ms};
use crate::batch;
use crate::process::{cpu_seconds, reset_peak};
use crate::server::{Kind, Places, Server, check_interrupted};
use crate::wire::{self, Connection, topic_name};

const METADATA: i16 = 12;
const SOURCE: &str = "source";
const RETRY: &str = "retry.bench";
/// RocketMQ's shortest back-off is a second.
const BACK_OFF: Duration = Duration::from_secs(1);
const CONFIG: &str =
    "[[retry]]\ngroups = [\"bench\"]\nbackoff = { steps = [\"1s\"] }\nmax_attempts = 16\npartitions = 6\n";
/// Consumers, each of some of the partitions.
const CONSUMERS: i32 = 3;

/// Consumes `count` records of 100 bytes, hands each back by its id, and consumes them again.
pub(super) fn retries(places: &Places, numbers: &mut Numbers, count: usize) -> Result<()> {
    let server = Server::start_with(Kind::Krocket, places, CONFIG)?;
    let mut connection = Connection::open(server.aim.address)?;
    wire::create_topics(&mut connection, &[SOURCE.to_owned()], PARTITIONS, &[])?;
    for (turn, first) in (0..count).step_by(PER_BATCH).enumerate() {
        let records = vec![(&[b'x'; 100][..], &[][..]); PER_BATCH.min(count - first)];
        let batch = batch::with_headers(&records, now_ms());
        wire::produce(&mut connection, SOURCE, turn as i32 % PARTITIONS, 1, &batch)?;
    }
    let ends = wire::end_offsets(&mut connection, SOURCE, PARTITIONS)?;
    // A retry topic is there once it is asked for.
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(RETRY)));
    connection.call(METADATA, &MetadataRequest::default().with_topics(Some(vec![asked])))?;
    reset_peak(server.aim.pid);
    let cpu = cpu_seconds(server.aim.pid)?;
    let started = Instant::now();
    let (handed_back, again) = thread::scope(|scope| -> Result<(Duration, Duration)> {
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|consumer| {
                let (server, ends) = (&server, &ends);
                scope.spawn(move || {
                    let partitions: Vec<i32> = (consumer..PARTITIONS).step_by(CONSUMERS as usize).collect();
                    let count = partitions.iter().filter_map(|index| ends.get(*index as usize)).sum::<i64>();
                    hand_back(server, &partitions, count as usize)
                })
            })
            .collect();
        let again = scope.spawn(|| consume(&server, count));
        let panicked = |_| anyhow::anyhow!("a load thread panicked");
        for consumer in consumers {
            consumer.join().map_err(panicked)??;
        }
        let handed_back = started.elapsed();
        again.join().map_err(panicked)??;
        Ok((handed_back, started.elapsed()))
    })?;
    numbers.add("handed back", count as f64 / handed_back.as_secs_f64(), "1/s");
    // The second that each has to wait is not the server's work.
    numbers.add("delivered again", count as f64 / again.saturating_sub(BACK_OFF).as_secs_f64(), "1/s");
    numbers.add("server CPU per million", (cpu_seconds(server.aim.pid)? - cpu) / count as f64 * 1e6, "s");
    memory(numbers, server.aim.pid)
}

/// Consumes so many records of these partitions and nacks each, as an empty record with its id.
fn hand_back(server: &Server, partitions: &[i32], count: usize) -> Result<()> {
    let mut connection = Connection::open(server.aim.address)?;
    let mut reader = Reader::new(server.aim.address, SOURCE, partitions.iter().copied())?;
    let mut done = 0;
    while done < count {
        check_interrupted()?;
        for set in reader.poll()? {
            let fetched = batch::count(set.batches);
            let first = fetched.first_offset.unwrap_or(0);
            let ids: Vec<String> =
                (first..fetched.next_offset).map(|offset| format!("{SOURCE}:{}:{offset}", set.partition)).collect();
            for ids in ids.chunks(PER_BATCH) {
                let headers: Vec<_> = ids.iter().map(|id| [("ORIGIN_MESSAGE_ID", id.as_str())]).collect();
                let nacks: Vec<(&[u8], &[(&str, &str)])> = headers.iter().map(|h| (&[][..], &h[..])).collect();
                let batch = batch::with_headers(&nacks, now_ms());
                wire::produce(&mut connection, RETRY, set.partition, 1, &batch)?;
            }
            done += ids.len();
        }
    }
    ensure!(done == count, "{done} records of {SOURCE} came where {count} were sent");
    Ok(())
}

/// Consumes the retries until so many have come.
fn consume(server: &Server, count: usize) -> Result<()> {
    let mut reader = Reader::new(server.aim.address, RETRY, 0..PARTITIONS)?;
    let mut seen = 0;
    let mut last = Instant::now();
    while seen < count {
        check_interrupted()?;
        for set in reader.poll()? {
            batch::each_header(&set.batches, b"RECONSUME_TIMES", |times| seen += usize::from(times == Some(b"1")));
            last = Instant::now();
        }
        ensure!(last.elapsed() < Duration::from_secs(60), "only {seen} of {count} records came again");
    }
    ensure!(seen == count, "{seen} records came again where {count} were handed back");
    Ok(())
}
