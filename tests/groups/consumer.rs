//! A member of KIP-848's protocol, as well-behaved clients are.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::ConsumerGroupHeartbeatRequest;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use tokio::sync::oneshot;

use crate::reader::Reader;
use crate::{End, text, topic};

const UNKNOWN_MEMBER_ID: i16 = 25;
const FENCED_MEMBER_EPOCH: i16 = 110;
const UNRELEASED_INSTANCE_ID: i16 = 111;
const STALE_MEMBER_EPOCH: i16 = 113;

struct Consumer {
    reader: Reader,
    id: String,
    instance: Option<String>,
    epoch: i32,
    interval: Duration,
}

pub(crate) async fn run(reader: Reader, instance: Option<String>, mut end: oneshot::Receiver<End>) {
    let id = format!("member-{}", reader.number);
    let mut consumer = Consumer { reader, id, instance, epoch: 0, interval: Duration::ZERO };
    consumer.join().await;
    loop {
        tokio::select! {
            how = &mut end => return consumer.end(how.expect("the test tells")).await,
            () = tokio::time::sleep(consumer.interval) => {}
        }
        consumer.beat().await;
        // Otherwise the next heartbeat tells.
        if let Err(code) = consumer.reader.read(&consumer.id, consumer.instance.as_deref(), consumer.epoch).await {
            assert!([STALE_MEMBER_EPOCH, UNKNOWN_MEMBER_ID].contains(&code), "OffsetCommit: {code}");
        }
    }
}

impl Consumer {
    fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(&self.reader.world.group).into())
            .with_member_id(text(&self.id))
            .with_instance_id(self.instance.as_deref().map(text))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(-1)
    }

    /// Says everything; again while the static member of before is not gone.
    async fn join(&mut self) {
        loop {
            let request = self
                .request(0)
                .with_rebalance_timeout_ms(60_000)
                .with_subscribed_topic_names(Some(vec![topic()]))
                .with_topic_partitions(Some(vec![]));
            match self.send(request).await {
                0 => return,
                UNRELEASED_INSTANCE_ID => tokio::time::sleep(Duration::from_millis(100)).await,
                code => panic!("joining: {code}"),
            }
        }
    }

    async fn beat(&mut self) {
        match self.send(self.request(self.epoch)).await {
            0 => {}
            UNKNOWN_MEMBER_ID | FENCED_MEMBER_EPOCH => {
                self.reader.give_all();
                self.join().await;
            }
            code => panic!("heartbeat: {code}"),
        }
    }

    /// Follows the answer, and says so at once.
    async fn send(&mut self, mut request: ConsumerGroupHeartbeatRequest) -> i16 {
        loop {
            let response = self.reader.call(1, &request).await;
            if response.error_code != 0 {
                return response.error_code;
            }
            self.epoch = response.member_epoch;
            self.interval = Duration::from_millis(response.heartbeat_interval_ms as u64);
            let Some(assignment) = response.assignment else { return 0 };
            let target: BTreeSet<i32> =
                assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.iter().copied()).collect();
            let held: BTreeSet<i32> = self.reader.held.keys().copied().collect();
            if target == held {
                return 0;
            }
            self.reader.give(&held.difference(&target).copied().collect());
            self.reader.take(&target.difference(&held).copied().collect()).await;
            let owned = TopicPartitions::default()
                .with_topic_id(self.reader.world.topic_id)
                .with_partitions(target.into_iter().collect());
            request = self.request(self.epoch).with_topic_partitions(Some(vec![owned]));
        }
    }

    async fn end(mut self, how: End) {
        let epoch = match how {
            End::Die => return self.reader.end(),
            End::Leave => -1,
            End::Restart => -2,
        };
        // What it holds is given up before the group hears of it.
        let request = self.request(epoch);
        let held = std::mem::take(&mut self.reader.held);
        self.reader.world.ledger.ends(self.reader.number, held.into_keys());
        let response = self.reader.call(1, &request).await;
        assert_eq!(response.error_code, 0, "leaving");
    }
}
