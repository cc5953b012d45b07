//! Records that keep coming, one to each partition at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_testkit::session::Session;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{World, topic};

pub(crate) struct Flow {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Flow {
    pub(crate) async fn start(world: Arc<World>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let mut session = Session::connect(world.address).await.expect("connects").patient(Duration::from_secs(60));
        let task = tokio::spawn(async move {
            while !*stopped.borrow_and_update() {
                write(&world, &mut session).await;
                let _ = tokio::time::timeout(world.interval, stopped.changed()).await;
            }
        });
        Flow { stop, task: Some(task) }
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            task.await.expect("the writer does not panic");
        }
    }
}

async fn write(world: &World, session: &mut Session) {
    for (partition, base_offset) in produce(session, world.partitions, 1).await {
        world.ledger.wrote(partition, base_offset + 1);
    }
}

/// So many records to each partition; gives the offsets of the first ones.
pub(crate) async fn produce(session: &mut Session, partitions: i32, records: usize) -> Vec<(i32, i64)> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let mut builder = BatchBuilder::new(0, now_ms);
    for place in 0..records as i64 {
        builder.push(place, now_ms, None, Some(b"record"), &[]);
    }
    let batch = builder.finish(LastOffset::Keep).expect("no codec").expect("has a record");
    let data = |partition| PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
    let data = TopicProduceData::default().with_name(topic()).with_partition_data((0..partitions).map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(60_000).with_topic_data(vec![data]);
    let response = session.call(9, &request).await.expect("an answer");
    let partitions = &response.responses[0].partition_responses;
    partitions.iter().for_each(|partition| assert_eq!(partition.error_code, 0, "Produce"));
    partitions.iter().map(|partition| (partition.index, partition.base_offset)).collect()
}
