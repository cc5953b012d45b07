//! What the group coordinator asks of share partitions, for administrators.

use std::sync::Arc;

use krocket_protocol::ErrorCode;
use krocket_stack::BoxFuture;
use uuid::Uuid;

use super::partition::SharePartition;
use super::{ShareGroup, Shares};
use crate::group::{ShareOffset, ShareState};
use crate::log::StorageError;

impl ShareState for Shares {
    fn subscribed(&self, group: &str, topics: &[Uuid]) {
        let policy = self.policy(group);
        let mut fresh = Vec::new();
        for topic in topics.iter().filter_map(|id| self.topics.by_id(*id)) {
            let partitions = (0..topic.partition_count()).filter_map(|index| self.partition_of(group, topic.id, index));
            fresh.extend(partitions.filter(|partition| partition.window.lock().is_none()));
        }
        if fresh.is_empty() {
            return;
        }
        // Latest is now, not when the first member gets round to fetching.
        let log = self.log.clone();
        tokio::spawn(async move {
            for partition in fresh {
                if let Err(error) = partition.begin(&log, &policy).await {
                    tracing::error!(%error, topic = partition.topic_name, "a share partition cannot begin");
                }
            }
        });
    }

    fn offsets(&self, group: &str) -> Result<Vec<ShareOffset>, ErrorCode> {
        let Some(group) = self.groups.get(group).map(|found| found.clone()) else { return Ok(Vec::new()) };
        let offset = |partition: Arc<SharePartition>| {
            let window = partition.window.lock();
            let (start, done) = window.as_ref().map(|window| (window.start(), window.done())).unzip();
            let left = |start: i64| partition.partition.high_watermark() - start - done.unwrap_or_default();
            ShareOffset {
                topic: partition.topic,
                partition: partition.index,
                start,
                lag: start.map(left).map(|lag| lag.max(0)),
            }
        };
        let mut offsets: Vec<ShareOffset> = group.all().into_iter().map(offset).collect();
        offsets.sort_by_key(|offset| (offset.topic, offset.partition));
        Ok(offsets)
    }

    fn reset<'a>(
        &'a self,
        group: &'a str,
        starts: &'a [(Uuid, i32, i64)],
    ) -> BoxFuture<'a, Vec<Result<(), ErrorCode>>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(starts.len());
            for (topic, index, start) in starts {
                outcomes.push(match self.partition_of(group, *topic, *index) {
                    Some(partition) => written(group, partition.reset(&self.log, *start).await),
                    None => Err(ErrorCode::UnknownTopicOrPartition),
                });
            }
            outcomes
        })
    }

    fn delete_topics<'a>(&'a self, group: &'a str, topics: &'a [Uuid]) -> BoxFuture<'a, Result<(), ErrorCode>> {
        Box::pin(async move {
            match self.groups.get(group).map(|found| found.clone()) {
                Some(group) => self.forget(&group, |partition| topics.contains(&partition.topic)).await,
                None => Ok(()),
            }
        })
    }

    fn delete<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<(), ErrorCode>> {
        Box::pin(async move {
            match self.groups.get(group).map(|found| found.clone()) {
                Some(found) => self.forget(&found, |_| true).await.map(|()| _ = self.groups.remove(group)),
                None => Ok(()),
            }
        })
    }
}

impl Shares {
    async fn forget(&self, group: &ShareGroup, which: impl Fn(&SharePartition) -> bool) -> Result<(), ErrorCode> {
        for partition in group.all().into_iter().filter(|partition| which(partition)) {
            written(&group.id, partition.forget(&self.log).await)?;
            group.partitions.remove(&partition.partition.id);
        }
        Ok(())
    }

    /// Forgets a topic that is deleted.
    pub(super) async fn forget_topic(&self, topic: &str) {
        let groups: Vec<Arc<ShareGroup>> = self.groups.iter().map(|entry| entry.value().clone()).collect();
        for group in groups {
            if let Err(code) = self.forget(&group, |partition| partition.topic_name == topic).await {
                tracing::error!(?code, group = &*group.id, topic, "a deleted topic is still in a share group's state");
            }
        }
    }
}

fn written(group: &str, result: Result<(), StorageError>) -> Result<(), ErrorCode> {
    result.map_err(|error| {
        tracing::error!(%error, group, "the state of a share group cannot be written");
        error.code()
    })
}
