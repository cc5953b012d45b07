//! What members of both protocols do with the partitions that they hold: read, and commit what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{BrokerId, FetchRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::Request;
use krocket_protocol::records::BatchHeader;
use krocket_testkit::session::Session;

use crate::ledger::Number;
use crate::{World, text, topic};

/// A JoinGroup waits for the others, the dead ones included.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Reader {
    pub(crate) number: Number,
    pub(crate) world: Arc<World>,
    /// The partitions held, and where to read on.
    pub(crate) held: BTreeMap<i32, i64>,
    session: Session,
}

impl Reader {
    pub(crate) async fn new(number: Number, world: Arc<World>) -> Self {
        let session = Session::connect(world.address).await.expect("connects").patient(PATIENCE);
        world.ledger.arrives(number);
        Reader { number, world, held: BTreeMap::new(), session }
    }

    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.session.call(version, request).await.unwrap_or_else(|error| panic!("api {}: {error}", R::KEY))
    }

    pub(crate) fn give(&mut self, partitions: &BTreeSet<i32>) {
        for partition in partitions {
            self.held.remove(partition).expect("held");
            self.world.ledger.give(self.number, *partition);
        }
    }

    pub(crate) fn give_all(&mut self) {
        self.give(&self.held.keys().copied().collect());
    }

    pub(crate) fn end(self) {
        self.world.ledger.ends(self.number, self.held.keys().copied());
    }

    /// Takes what is new and goes on from where it was committed.
    pub(crate) async fn take(&mut self, partitions: &BTreeSet<i32>) {
        if partitions.is_empty() {
            return;
        }
        for partition in partitions {
            self.world.ledger.take(self.number, *partition);
        }
        let indexes: Vec<i32> = partitions.iter().copied().collect();
        let response = self.call(9, &offset_fetch(&self.world, indexes)).await;
        let group = &response.groups[0];
        assert_eq!(group.error_code, 0, "OffsetFetch");
        assert_eq!(group.topics[0].partitions.len(), partitions.len());
        for found in &group.topics[0].partitions {
            assert_eq!(found.error_code, 0, "OffsetFetch");
            self.world.ledger.found(found.partition_index, found.committed_offset);
            self.held.insert(found.partition_index, found.committed_offset.max(0));
        }
    }

    /// Reads what there is and commits it; a refused commit leaves everything as it was and gives the error.
    pub(crate) async fn read(&mut self, id: &str, instance: Option<&str>, epoch: i32) -> Result<(), i16> {
        let ledger = &self.world.ledger;
        let asked: Vec<FetchPartition> = self
            .held
            .iter()
            .filter(|(partition, position)| ledger.has_more(**partition, **position))
            .map(|(partition, position)| {
                FetchPartition::default()
                    .with_partition(*partition)
                    .with_current_leader_epoch(-1)
                    .with_fetch_offset(*position)
                    .with_partition_max_bytes(1 << 20)
            })
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let asked = FetchTopic::default().with_topic(topic()).with_partitions(asked);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_bytes(16 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![asked]);
        let response = self.call(12, &request).await;
        let mut read = Vec::new();
        for answer in &response.responses[0].partitions {
            assert_eq!(answer.error_code, 0, "Fetch");
            let from = self.held[&answer.partition_index];
            let mut to = from;
            let mut records = answer.records.clone().unwrap_or_default();
            while !records.is_empty() {
                let header = BatchHeader::read(&records).expect("a whole batch");
                to = header.last_offset() + 1;
                let _ = records.split_to(header.len);
            }
            read.push((answer.partition_index, from, to));
        }
        self.commit(id, instance, epoch, &read).await?;
        for (partition, from, to) in read {
            self.world.ledger.read(self.number, partition, from, to);
            self.held.insert(partition, to);
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        id: &str,
        instance: Option<&str>,
        epoch: i32,
        read: &[(i32, i64, i64)],
    ) -> Result<(), i16> {
        let partition = |(partition, _, to): &(i32, i64, i64)| {
            OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*to)
        };
        let partitions = read.iter().map(partition).collect();
        let request = OffsetCommitRequest::default()
            .with_group_id(text(&self.world.group).into())
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_generation_id_or_member_epoch(epoch)
            .with_topics(vec![OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions)]);
        let response = self.call(9, &request).await;
        let codes: BTreeSet<i16> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!(codes.len(), 1, "a commit is taken or refused as a whole: {codes:?}");
        codes.first().map_or(Ok(()), |code| if *code == 0 { Ok(()) } else { Err(*code) })
    }
}

pub(crate) fn offset_fetch(world: &World, partitions: Vec<i32>) -> OffsetFetchRequest {
    let topics = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(partitions);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text(&world.group).into())
        .with_member_epoch(-1)
        .with_topics(Some(vec![topics]));
    OffsetFetchRequest::default().with_groups(vec![group])
}
