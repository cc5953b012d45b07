//! Reads what is committed, writes it elsewhere and commits how far it is, all in one transaction.

use std::io;

use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, ProducerId, TxnOffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;
use krocket_testkit::session::Session;

use crate::client::{Producer, fetch, topic};
use crate::{COPY, PARTITIONS, SOURCE, World};

const GROUP: &str = "copier";
const UNSTABLE_OFFSET_COMMIT: i16 = 88;

/// Copies until the test ends and nothing is left to copy.
pub(crate) async fn run(mut world: World) {
    loop {
        let (address, ending) = world.server().await;
        let Ok(session) = Session::connect(address).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let Ok(mut producer) = Producer::init(session, "copier").await else { continue };
        if copy(&mut producer, &world).await.is_ok() && ending {
            return;
        }
    }
}

/// Comes back at the end of the source, once the test is ending.
async fn copy(producer: &mut Producer, world: &World) -> io::Result<()> {
    let mut offsets = committed(&mut producer.session).await?;
    let mut empty = 0;
    loop {
        let ending = world.is_ending();
        let mut found = false;
        for (partition, offset) in (0..).zip(offsets.iter_mut()) {
            let (values, next, stable) = fetch(&mut producer.session, SOURCE, partition, *offset, 5).await?;
            found |= *offset < stable;
            *offset = next;
            if !values.is_empty() {
                producer.send(COPY, partition, &values).await?;
            }
        }
        if found {
            empty = 0;
            stage(producer, &offsets).await?;
            producer.end(true).await?;
        } else if ending {
            // Writers that are about to end may still commit something.
            empty += 1;
            if empty > 200 {
                return Ok(());
            }
        }
    }
}

async fn committed(session: &mut Session) -> io::Result<[i64; PARTITIONS as usize]> {
    let asked =
        OffsetFetchRequestTopics::default().with_name(topic(SOURCE)).with_partition_indexes((0..PARTITIONS).collect());
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
        .with_topics(Some(vec![asked]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
    loop {
        let response = session.call(8, &request).await?;
        let partitions = &response.groups[0].topics[0].partitions;
        if partitions.iter().any(|one| one.error_code == UNSTABLE_OFFSET_COMMIT) {
            continue;
        }
        let mut offsets = [0; PARTITIONS as usize];
        for one in partitions {
            assert_eq!(one.error_code, 0, "OffsetFetch");
            offsets[one.partition_index as usize] = one.committed_offset.max(0);
        }
        return Ok(offsets);
    }
}

async fn stage(producer: &mut Producer, offsets: &[i64]) -> io::Result<()> {
    let partition = |(index, offset): (i32, &i64)| {
        TxnOffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(*offset)
    };
    let topics = TxnOffsetCommitRequestTopic::default()
        .with_name(topic(SOURCE))
        .with_partitions((0..).zip(offsets).map(partition).collect());
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(producer.id.clone())
        .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
        .with_producer_id(ProducerId(producer.producer.0))
        .with_producer_epoch(producer.producer.1)
        .with_generation_id(-1)
        .with_topics(vec![topics]);
    let response = producer.session.call(5, &request).await?;
    assert!(response.topics[0].partitions.iter().all(|one| one.error_code == 0), "{response:?}");
    Ok(())
}
