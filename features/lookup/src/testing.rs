//! A ledger in memory, for the tests beside the code.

use std::collections::BTreeMap;
use std::sync::Arc;

use krocket_config::Config;
use krocket_config::rules::{Live, Rules};
use krocket_protocol::StrBytes;
use krocket_protocol::chunk::FileSlice;
use krocket_protocol::records::{BatchBuilder, Header, LastOffset};
use krocket_stack::ledger::{Fate, PartitionId, PartitionInfo, StoredBatch, TopicInfo, Watching};
use krocket_stack::share::ShareRules;
use krocket_stack::{BoxFuture, Error, Handler, Ledger, LedgerError, Request, Response, Row, Written};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Lookup;

/// Headers of a record.
pub(crate) type Rec = Vec<(String, String)>;

/// A record with these headers.
pub(crate) fn record(headers: &[(&str, &str)]) -> Rec {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[derive(Default)]
struct Partition {
    topic: String,
    index: i32,
    log_start: i64,
    batches: Vec<StoredBatch>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Memory {
    partitions: Mutex<BTreeMap<PartitionId, Partition>>,
    rows: Mutex<BTreeMap<(u8, Vec<u8>), Vec<u8>>>,
    work: Notify,
}

impl Memory {
    /// Partition n is the next of the n-th topic.
    pub(crate) fn new(topics: &[&str]) -> Arc<Self> {
        let memory = Memory::default();
        for (id, topic) in (0..).zip(topics) {
            let index = topics.iter().take(id as usize).filter(|other| *other == topic).count() as i32;
            memory
                .partitions
                .lock()
                .insert(id, Partition { topic: (*topic).to_owned(), index, ..Partition::default() });
        }
        Arc::new(memory)
    }

    /// One record in a batch of its own: timestamp 1000 + offset, key `k`, value `v`.
    pub(crate) fn append(&self, partition: PartitionId, offset: i64, record: &Rec) {
        let headers = record.iter().map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) });
        let mut batch = BatchBuilder::new(offset, 1000 + offset);
        batch.push(offset, 1000 + offset, Some(b"k"), Some(b"v"), &headers.collect::<Vec<_>>());
        let batch = batch.finish(LastOffset::Trim).expect("builds").expect("a record");
        let stored = StoredBatch { batch, hidden: Vec::new(), rewritten: false };
        self.partitions.lock().get_mut(&partition).expect("a partition").batches.push(stored);
    }

    /// Hides the record of the batch that was appended last.
    pub(crate) fn hide(&self, partition: PartitionId, offset: i64) {
        let mut partitions = self.partitions.lock();
        let batch = partitions.get_mut(&partition).and_then(|partition| partition.batches.last_mut());
        batch.expect("a batch").hidden.push(offset);
    }

    pub(crate) fn set_log_start(&self, partition: PartitionId, log_start: i64) {
        self.partitions.lock().get_mut(&partition).expect("a partition").log_start = log_start;
    }

    pub(crate) fn delete(&self, partition: PartitionId) {
        self.partitions.lock().remove(&partition);
    }

    pub(crate) fn put(&self, table: u8, key: &[u8], value: &[u8]) {
        self.rows.lock().insert((table, key.to_vec()), value.to_vec());
    }

    pub(crate) fn get(&self, table: u8, key: &[u8]) -> Option<Vec<u8>> {
        self.rows.lock().get(&(table, key.to_vec())).cloned()
    }

    pub(crate) fn keys(&self, table: u8) -> Vec<Vec<u8>> {
        self.rows.lock().keys().filter(|(of, _)| *of == table).map(|(_, key)| key.clone()).collect()
    }

    /// Forgets the rows of a table from a key on.
    pub(crate) fn take_back(&self, table: u8, from: &[u8]) {
        self.rows.lock().retain(|(of, key), _| *of != table || key.as_slice() < from);
    }

    fn change(&self, rows: Vec<Row>) {
        let mut held = self.rows.lock();
        for row in rows {
            match row {
                Row::Put { table, key, value, .. } => held.insert((table, key.fill(0)), value.fill(0)),
                Row::Delete { table, key, .. } => held.remove(&(table, key)),
            };
        }
    }
}

fn last_offset(stored: &StoredBatch) -> i64 {
    krocket_protocol::records::BatchHeader::read(&stored.batch).expect("a batch").last_offset()
}

impl Ledger for Memory {
    fn now_ms(&self) -> i64 {
        2000
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.topics().into_iter().find(|topic| &*topic.name == name)
    }

    fn topic_by_id(&self, _: Uuid) -> Option<TopicInfo> {
        None
    }

    fn topics(&self) -> Vec<TopicInfo> {
        let mut topics: BTreeMap<String, Vec<PartitionId>> = BTreeMap::new();
        for (id, partition) in &*self.partitions.lock() {
            topics.entry(partition.topic.clone()).or_default().push(*id);
        }
        let topics = topics.into_iter();
        topics
            .map(|(name, partitions)| TopicInfo { name: StrBytes::from_string(name), id: Uuid::nil(), partitions })
            .collect()
    }

    fn topic_config(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn topics_changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn partition(&self, id: PartitionId) -> Option<PartitionInfo> {
        let partitions = self.partitions.lock();
        let Partition { topic, index, log_start, batches } = partitions.get(&id)?;
        let end = batches.last().map_or(0, |stored| last_offset(stored) + 1);
        let topic = StrBytes::from_string(topic.clone());
        let (index, log_start) = (*index, *log_start);
        Some(PartitionInfo {
            topic,
            topic_id: Uuid::nil(),
            index,
            log_start,
            high_watermark: end,
            end,
            last_stable: end,
        })
    }

    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(Memory::get(self, table, key))
    }

    fn scan(&self, table: u8, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), LedgerError> {
        let rows = self.rows.lock().clone();
        let mut shown = rows.range((table, from.to_vec())..).take_while(|((of, _), _)| *of == table);
        shown.all(|((_, key), value)| visit(key, value));
        Ok(())
    }

    fn scan_written(
        &self,
        _: u8,
        _: &[u8],
        _: &mut dyn FnMut(&[u8], &[u8], Written) -> bool,
    ) -> Result<(), LedgerError> {
        Err(LedgerError("nothing is written".to_owned()))
    }

    fn commit(&self, rows: Vec<Row>, _: bool) -> BoxFuture<'static, Result<(), LedgerError>> {
        self.change(rows);
        Box::pin(std::future::ready(Ok(())))
    }

    fn derive(&self, rows: Vec<Row>) -> Result<(), LedgerError> {
        self.change(rows);
        Ok(())
    }

    fn batches(&self, partition: PartitionId, from: i64, max_bytes: usize) -> Result<Vec<StoredBatch>, LedgerError> {
        let partitions = self.partitions.lock();
        let batches = partitions.get(&partition).map(|partition| partition.batches.as_slice()).unwrap_or_default();
        let found = batches.iter().filter(|stored| last_offset(stored) >= from);
        Ok(found.take(if max_bytes == 1 { 1 } else { usize::MAX }).cloned().collect())
    }

    fn locate(&self, _: PartitionId, offsets: &[i64]) -> Result<Vec<Option<FileSlice>>, LedgerError> {
        Ok(vec![None; offsets.len()])
    }

    fn fate(&self, _: PartitionId, _: i64) -> Result<Fate, LedgerError> {
        Err(LedgerError("there are no transactions".to_owned()))
    }

    fn watch(&self, _: &[PartitionId]) -> Box<dyn Watching> {
        struct Never;
        impl Watching for Never {
            fn changed(&mut self) -> BoxFuture<'_, ()> {
                Box::pin(std::future::pending())
            }
        }
        Box::new(Never)
    }

    fn set_share_rules(&self, _: Arc<dyn ShareRules>) {}

    fn work(&self) -> &Notify {
        &self.work
    }
}

/// Nobody is asked for groups.
struct Nobody;

impl Handler for Nobody {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async { Err(Error::Close("nobody answers".to_owned())) })
    }
}

/// An index over this ledger, on for these topics and off for all others.
pub(crate) fn lookup(memory: &Arc<Memory>, topics: &[&str]) -> Arc<Lookup> {
    let mut rules = vec![serde_json::json!({"topics": topics, "lookup": true})];
    if topics != ["*"] {
        rules.push(serde_json::json!({"topics": ["*"], "lookup": false}));
    }
    let rules = serde_json::Value::Array(rules);
    let config = Config { rules: serde_json::from_value(rules).expect("rules"), ..Config::default() };
    Lookup::new(memory.clone(), Arc::new(Nobody), Live::new(Rules::new(&config).expect("rules")))
}
