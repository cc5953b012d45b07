//! A consumer as the features' rows need it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use crate::batch;
use crate::wire::{Connection, check, topic_name};

const FETCH: i16 = 12;

/// Fetches partitions of a topic from their beginnings; offsets may have gaps.
pub(super) struct Reader {
    connection: Connection,
    topic: String,
    /// Partitions and how far they are read.
    positions: Vec<(i32, i64)>,
}

/// What a fetch brought of a partition.
pub(super) struct Set {
    pub(super) partition: i32,
    pub(super) batches: Bytes,
}

impl Reader {
    pub(super) fn new(address: SocketAddr, topic: &str, partitions: impl Iterator<Item = i32>) -> Result<Self> {
        let connection = Connection::open(address)?;
        Ok(Reader { connection, topic: topic.to_owned(), positions: partitions.map(|index| (index, 0)).collect() })
    }

    pub(super) fn poll(&mut self) -> Result<Vec<Set>> {
        let partitions = self.positions.iter().map(|(index, position)| {
            FetchPartition::default()
                .with_partition(*index)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_fetch_offset(*position)
                .with_partition_max_bytes(1 << 20)
        });
        let topic = FetchTopic::default().with_topic(topic_name(&self.topic)).with_partitions(partitions.collect());
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.connection.call(FETCH, &request)?;
        check(response.error_code, "fetching")?;
        let mut sets = Vec::new();
        for fetched in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            let partition = fetched.partition_index;
            check(fetched.error_code, &format!("fetching {}-{partition}", self.topic))?;
            let Some(batches) = fetched.records.filter(|set| !set.is_empty()) else { continue };
            let end = batch::count(batches.clone()).next_offset;
            let asked = self.positions.iter_mut().find(|(index, _)| *index == partition);
            let (_, position) = asked.context("nobody asked for this partition")?;
            *position = (*position).max(end);
            sets.push(Set { partition, batches });
        }
        Ok(sets)
    }
}
