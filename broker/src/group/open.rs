//! Groups on this broker: over its log, its topics and its configs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use krocket_stack::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use super::coordinator::Coordinator;
use super::journal::JournalError;
use super::settings::GroupSettings;
use super::topics::TopicImage;
use crate::config::Configs;
use crate::log::Log;
use crate::topics::{Forget, Topics};

/// Loads the groups, has them follow topics and configs, and lets their offsets expire. Must be called on a Tokio
/// runtime, before the first request and before deletions of topics are finished.
pub fn open(log: &Log, topics: &Topics, configs: &Arc<Configs>) -> Result<Arc<Coordinator>, JournalError> {
    let image = Image { topics: topics.clone(), changes: topics.changes() };
    let settings = {
        let configs = configs.clone();
        move |group: &str| GroupSettings::new(&configs.broker(), configs.group(group))
    };
    let coordinator = Coordinator::open(Arc::new(log.clone()), Arc::new(image), settings)?;
    topics.add_forget(&coordinator);
    tokio::spawn(expire_regularly(Arc::downgrade(&coordinator), configs.clone()));
    Ok(coordinator)
}

async fn expire_regularly(coordinator: Weak<Coordinator>, configs: Arc<Configs>) {
    loop {
        let period_ms = configs.broker().offsets_retention_check_interval_ms;
        tokio::time::sleep(Duration::from_millis(u64::try_from(period_ms).unwrap_or(1).max(1))).await;
        match coordinator.upgrade() {
            Some(coordinator) => coordinator.expire(),
            None => return,
        }
    }
}

struct Image {
    topics: Topics,
    changes: watch::Receiver<u64>,
}

impl TopicImage for Image {
    fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        self.topics.get(name).map(|topic| topic.id)
    }

    fn name(&self, id: Uuid) -> Option<String> {
        self.topics.by_id(id).map(|topic| topic.name.clone())
    }

    fn partitions(&self, id: Uuid) -> Option<i32> {
        self.topics.by_id(id).map(|topic| topic.partition_count())
    }

    fn names(&self) -> Vec<String> {
        self.topics.all().iter().map(|topic| topic.name.clone()).collect()
    }
}

impl Forget for Coordinator {
    fn forget<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.forget_topic(topic))
    }
}
