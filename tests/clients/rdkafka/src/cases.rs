//! The cases of the scenario; see README.md.
use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::client::{Client, Record, TopicExists};

/// The client cannot do what the case asks.
#[derive(Debug)]
pub struct Skip(pub &'static str);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

pub struct Cases {
    pub client: Client,
    pub scenario: Value,
    pub prefix: String,
}

/// Waits for a state that the broker reaches in its own time.
pub fn until(seconds: u64, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !condition()? {
        ensure!(Instant::now() < deadline, "not within {seconds} s: {what}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn bytes(text: impl ToString) -> Vec<u8> {
    text.to_string().into_bytes()
}

pub fn number(i: usize) -> Record {
    Record { value: Some(bytes(i)), ..Record::default() }
}

/// Shows any change of a byte: sizes from 0, every byte value, empty and binary headers.
fn payload(i: usize) -> Record {
    Record {
        key: Some(bytes(format!("key-{i:05}"))),
        value: Some((0..i * 37 % 1000).map(|j| (i + j * 7) as u8).collect()),
        headers: vec![
            ("i".into(), Some(bytes(i))),
            ("empty".into(), Some(vec![])),
            ("bytes".into(), Some(vec![255, 254, 0, i as u8])),
        ],
        ..Record::default()
    }
}

fn expect_offsets(records: &[Record], first: i64, count: usize) -> Result<()> {
    ensure!(records.len() == count, "{} records, wanted {count}", records.len());
    for (i, r) in records.iter().enumerate() {
        let wanted = first + i as i64;
        ensure!(r.offset == wanted, "record {i} has offset {}, wanted {wanted}", r.offset);
    }
    Ok(())
}

impl Cases {
    pub fn run(&self, name: &str) -> Result<()> {
        match name.split_once('-') {
            Some(("compression", codec)) => return self.compression(codec),
            Some(("group", protocol)) => return self.group(protocol),
            _ => {}
        }
        match name {
            "topics" => self.topics(),
            "header-duplicates" => self.header_duplicates(),
            "header-binary-values" => self.header_binary_values(),
            "header-binary-keys" => bail!(Skip("header keys are strings")),
            "nulls" => self.nulls(),
            "idempotence" => {
                let partitions = self.number("idempotence", "partitions");
                self.in_order(name, partitions, self.number("idempotence", "records") / partitions, true)
            }
            "order" => self.in_order(
                name,
                self.number("order", "partitions"),
                self.number("order", "records_per_partition"),
                false,
            ),
            "timestamps" => self.timestamps(),
            "delete-records" => self.delete_records(),
            "delete-topic" => self.delete_topic(),
            "compacted" => self.compacted(),
            "commit" => self.commit(),
            "restart-term" => self.resume(self.number("restart", "first"), self.number("restart", "second")),
            "restart-kill" => {
                let start = self.number("restart", "first") + self.number("restart", "second");
                self.resume(start, self.number("restart", "records") - start)
            }
            "view-group" | "delay-cancel" | "retry-dead-redrive" | "half-check" | "transactions" => {
                bail!(Skip("librdkafka does these stories in Python"))
            }
            "share" | "share-renew" => bail!(Skip("no share consumer in the crate")),
            _ => bail!("no such case"),
        }
    }

    pub fn number(&self, case: &str, name: &str) -> usize {
        self.scenario[case][name].as_u64().expect("scenario.json has the number") as usize
    }

    fn configs(&self, case: &str) -> Vec<(String, String)> {
        let configs = self.scenario[case]["configs"].as_object().expect("scenario.json has the configs");
        configs.iter().map(|(k, v)| (k.clone(), v.as_str().expect("a string").to_string())).collect()
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn wait_for_topic(&self, topic: &str, partitions: usize) -> Result<()> {
        until(15, &format!("{topic} in the metadata"), || Ok(self.client.topics()?.get(topic) == Some(&partitions)))
    }

    pub fn new_topic(&self, name: &str, partitions: usize, configs: &[(String, String)]) -> Result<String> {
        let topic = self.name(name);
        self.client.create_topic(&topic, partitions as i32, configs)?;
        self.wait_for_topic(&topic, partitions)?;
        // A leader that isn't ready yet would make producers without idempotence retry, which may change the order.
        for p in 0..partitions {
            until(15, "a leader", || Ok(self.client.watermarks(&topic, p as i32).is_ok()))?;
        }
        Ok(topic)
    }

    fn read_all(&self, topic: &str, partition: usize, count: usize) -> Result<Vec<Record>> {
        self.client.read(topic, partition as i32, 0, |records| records.len() >= count)
    }

    fn expect_watermarks(&self, topic: &str, partition: usize, wanted: (i64, i64)) -> Result<()> {
        let got = self.client.watermarks(topic, partition as i32)?;
        ensure!(got == wanted, "watermarks {got:?}, wanted {wanted:?}");
        Ok(())
    }

    fn round_trip(&self, name: &str, records: &[Record], codec: &str) -> Result<()> {
        let topic = self.new_topic(name, 1, &[])?;
        let offsets = self.client.produce(&topic, records, codec, false)?;
        ensure!(
            offsets.iter().enumerate().all(|(i, o)| i as i64 == *o),
            "offsets of the acknowledgements: {offsets:?}"
        );
        let got = self.read_all(&topic, 0, records.len())?;
        expect_offsets(&got, 0, records.len())?;
        for (i, (got, wanted)) in got.iter().zip(records).enumerate() {
            ensure!(
                got.content() == wanted.content(),
                "record {i}: got {:?}, wanted {:?}",
                got.content(),
                wanted.content()
            );
        }
        Ok(())
    }

    fn topics(&self) -> Result<()> {
        let (partitions, more) = (self.number("topics", "partitions"), self.number("topics", "more_partitions"));
        let topic = self.new_topic("topics", partitions, &self.configs("topics"))?;
        match self.client.create_topic(&topic, partitions as i32, &[]) {
            Err(error) if error.is::<TopicExists>() => {}
            other => bail!("creating a topic twice gave {other:?}"),
        }
        let described = self.client.configs(&topic)?;
        for (name, value) in self.configs("topics") {
            let got = described.get(&name).cloned().flatten();
            ensure!(got.as_ref() == Some(&value), "{name} is {got:?}, wanted {value}");
        }
        self.client.add_partitions(&topic, more)?;
        self.wait_for_topic(&topic, more)
    }

    fn compression(&self, codec: &str) -> Result<()> {
        let records: Vec<_> = (0..self.number("compression", "records")).map(payload).collect();
        self.round_trip(&format!("compression-{codec}"), &records, codec)
    }

    fn header_duplicates(&self) -> Result<()> {
        let mut headers: Vec<(String, Option<Vec<u8>>)> =
            [("a", "1"), ("b", "2"), ("a", "3"), ("a", "1"), ("", "no name")]
                .map(|(k, v)| (k.to_string(), Some(bytes(v))))
                .into();
        headers.push(("null".into(), None));
        self.round_trip("header-duplicates", &[Record { headers, ..number(1) }, number(2)], "none")
    }

    fn header_binary_values(&self) -> Result<()> {
        let headers = vec![("bytes".into(), Some((0..=255).collect())), ("ü".into(), Some(vec![0xc3, 0x28]))];
        self.round_trip("header-binary-values", &[Record { headers, ..number(1) }], "none")
    }

    fn nulls(&self) -> Result<()> {
        let kinds = [None, Some(vec![]), Some(bytes("x"))];
        let mut records = Vec::new();
        for key in &kinds {
            for value in &kinds {
                records.push(Record { key: key.clone(), value: value.clone(), ..Record::default() });
            }
        }
        self.round_trip("nulls", &records, "none")
    }

    fn in_order(&self, name: &str, partitions: usize, per_partition: usize, idempotent: bool) -> Result<()> {
        let topic = self.new_topic(name, partitions, &[])?;
        let records: Vec<_> = (0..partitions * per_partition)
            .map(|i| Record { partition: (i % partitions) as i32, ..number(i) })
            .collect();
        self.client.produce(&topic, &records, "none", idempotent)?;
        for p in 0..partitions {
            let got = self.read_all(&topic, p, per_partition)?;
            expect_offsets(&got, 0, per_partition)?;
            for (n, r) in got.iter().enumerate() {
                let wanted = bytes(n * partitions + p);
                ensure!(r.value.as_ref() == Some(&wanted), "record {n} of partition {p} is {:?}", r.value);
            }
            self.expect_watermarks(&topic, p, (0, per_partition as i64))?;
        }
        Ok(())
    }

    fn timestamps(&self) -> Result<()> {
        let n = self.number("timestamps", "records");
        let half = n / 2;
        let base = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64 - 3_600_000;
        let topic = self.new_topic("timestamps", 1, &[])?;
        let time = |i: usize| base + (i * self.number("timestamps", "step_ms")) as i64;
        let records: Vec<_> = (0..n).map(|i| Record { timestamp: Some(time(i)), ..number(i) }).collect();
        self.client.produce(&topic, &records, "none", false)?;
        let got = self.read_all(&topic, 0, n)?;
        expect_offsets(&got, 0, n)?;
        for (i, r) in got.iter().enumerate() {
            ensure!(r.timestamp == Some(time(i)), "record {i} has timestamp {:?}, wanted {}", r.timestamp, time(i));
        }
        for (ms, wanted) in [(time(half) - 5, Some(half as i64)), (base - 5, Some(0)), (time(n - 1) + 5, None)] {
            let got = self.client.offset_for_time(&topic, 0, ms)?;
            ensure!(got == wanted, "offset for time {}: got {got:?}, wanted {wanted:?}", ms - base);
        }
        let sought = self.client.read(&topic, 0, half as i64, |r| r.len() >= n - half)?;
        expect_offsets(&sought, half as i64, n - half)
    }

    fn delete_records(&self) -> Result<()> {
        let (n, before) = (self.number("delete-records", "records"), self.number("delete-records", "before"));
        let topic = self.new_topic("delete-records", 1, &[])?;
        self.client.produce(&topic, &vec![number(1); n], "none", false)?;
        let low = self.client.delete_records(&topic, 0, before as i64)?;
        ensure!(low == before as i64, "low watermark {low}, wanted {before}");
        self.expect_watermarks(&topic, 0, (before as i64, n as i64))?;
        let got = self.client.read(&topic, 0, before as i64, |r| r.len() >= n - before)?;
        expect_offsets(&got, before as i64, n - before)
    }

    fn delete_topic(&self) -> Result<()> {
        let topic = self.new_topic("delete-topic", 1, &[])?;
        self.client.produce(&topic, &vec![number(1); 3], "none", false)?;
        self.client.delete_topic(&topic)?;
        until(15, "the topic is gone", || Ok(!self.client.topics()?.contains_key(&topic)))?;
        until(15, "the topic can be created again", || match self.client.create_topic(&topic, 1, &[]) {
            Err(error) if error.is::<TopicExists>() => Ok(false), // the deletion may still be under way
            other => other.map(|()| true),
        })?;
        self.wait_for_topic(&topic, 1)?;
        until(15, "the new topic is empty", || Ok(self.expect_watermarks(&topic, 0, (0, 0)).is_ok()))?;
        let offsets = self.client.produce(&topic, &[number(2)], "none", false)?;
        ensure!(offsets == [0], "the first offset in the new topic is {offsets:?}");
        Ok(())
    }

    /// Written first, so that the broker can compact while the other cases run.
    pub fn prepare_compacted(&self) -> Result<()> {
        let topic = self.new_topic("compacted", 1, &self.configs("compacted"))?;
        let keys = self.number("compacted", "keys");
        let records: Vec<_> = (0..keys * self.number("compacted", "rounds"))
            .map(|i| Record { key: Some(bytes(format!("k{}", i % keys))), ..number(i) })
            .collect();
        self.client.produce(&topic, &records, "none", false)?;
        for i in 1..=2 {
            sleep(Duration::from_millis(500)); // longer than segment.ms: the next batch rolls the segment
            self.client.produce(&topic, &[Record { key: Some(bytes("last")), ..number(i) }], "none", false)?;
        }
        Ok(())
    }

    fn compacted(&self) -> Result<()> {
        let (keys, rounds) = (self.number("compacted", "keys"), self.number("compacted", "rounds"));
        let (topic, end) = (self.name("compacted"), (keys * rounds + 2) as i64);
        let read = |from: i64| self.client.read(&topic, 0, from, |r| r.last().is_some_and(|r| r.offset == end - 1));
        let mut got = Vec::new();
        until(60, "the topic is compacted", || {
            got = read(0)?;
            Ok(got.len() <= keys + 2)
        })?;
        ensure!(got.is_sorted_by(|a, b| a.offset < b.offset), "offsets do not ascend");
        let latest: HashMap<_, _> = got.iter().map(|r| (r.key.clone(), r.value.clone())).collect();
        for k in 0..keys {
            let value = latest.get(&Some(bytes(format!("k{k}")))).cloned().flatten();
            ensure!(value == Some(bytes(keys * (rounds - 1) + k)), "last value of k{k}: {value:?}");
        }
        let first = got[0].offset;
        let again = read(first / 2)?[0].offset;
        ensure!(again == first, "reading from a gap starts at {again}, wanted {first}");
        ensure!(self.client.watermarks(&topic, 0)?.1 == end, "the log does not end at {end}");
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        let topic = self.new_topic("restart", 1, &[])?;
        let records: Vec<_> = (0..self.number("restart", "records")).map(payload).collect();
        self.client.produce(&topic, &records, "none", true)?;
        self.resume(0, self.number("restart", "first"))
    }

    fn resume(&self, start: usize, count: usize) -> Result<()> {
        let topic = self.name("restart");
        if start > 0 {
            // A coordinator that has just started may ask for patience, which comes as an error.
            until(15, &format!("the committed offset is {start}"), || {
                Ok(self.client.committed(&topic, &topic, 0).is_ok_and(|offset| offset == Some(start as i64)))
            })?;
        }
        let got = self.client.group_read(&topic, &topic, count)?;
        expect_offsets(&got, start as i64, count)?;
        for (i, r) in got.iter().enumerate() {
            ensure!(r.content() == payload(start + i).content(), "record {}: got {:?}", start + i, r.content());
        }
        let committed = self.client.committed(&topic, &topic, 0)?;
        ensure!(
            committed == Some((start + count) as i64),
            "committed offset: got {committed:?}, wanted {}",
            start + count
        );
        Ok(())
    }
}
