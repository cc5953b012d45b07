//! The topics that come with a group.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use krocket_config::rules::Live;
use krocket_features::{admin, escape};
use krocket_stack::{Handler, Ledger};
use parking_lot::Mutex;

/// Creates `retry.<group>` and `dlq.<group>`.
pub struct Topics {
    ledger: Arc<dyn Ledger>,
    rules: Live,
    next: Arc<dyn Handler>,
    /// Groups whose topics are there, or on their way.
    known: Mutex<HashSet<String>>,
    failed: OnceLock<()>,
}

/// Groups that are remembered, at most.
const MAX_KNOWN: usize = 100_000;

impl Topics {
    /// Through `next`.
    pub fn new(ledger: Arc<dyn Ledger>, rules: Live, next: Arc<dyn Handler>) -> Arc<Self> {
        Arc::new(Topics { ledger, rules, next, known: Mutex::default(), failed: OnceLock::new() })
    }

    /// Has a group's topics created, without waiting.
    pub(crate) fn prepare(self: &Arc<Self>, group: &str) {
        {
            let mut known = self.known.lock();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            if !known.insert(group.to_owned()) {
                return;
            }
        }
        let (topics, group) = (self.clone(), group.to_owned());
        tokio::spawn(async move {
            if let Err(error) = topics.create(&group).await {
                topics.known.lock().remove(&group);
                if topics.failed.set(()).is_ok() {
                    tracing::warn!(%error, group, "a group has no retry topics");
                }
            }
        });
    }

    /// Creates a group's topics unless they are there.
    pub(crate) async fn create(&self, group: &str) -> Result<(), String> {
        let rules = self.rules.get();
        let policy = rules.retry(group);
        if !policy.enabled {
            return Ok(());
        }
        for prefix in [&rules.prefixes.retry, &rules.prefixes.dlq] {
            let name = escape::topic(prefix, group).ok_or_else(|| format!("{prefix}{group} is too long for a topic"))?;
            if self.ledger.topic(&name).is_none() {
                admin::create_topic(&*self.next, &name, policy.partitions).await?;
            }
        }
        Ok(())
    }

    /// The group that a retry or dead-letter topic belongs to.
    pub(crate) fn group_of(&self, topic: &str) -> Option<String> {
        let prefixes = &self.rules.get().prefixes;
        escape::group(&prefixes.retry, topic).or_else(|| escape::group(&prefixes.dlq, topic))
    }
}
