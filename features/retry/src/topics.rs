//! The topics that come with a group.
//!
//! `retry.<group>` and `dlq.<group>` come when a consumer joins the group, or when something is produced to the first of
//! them and the group is there. A consumer that subscribes to its topics and `retry.<group>` asks for them before it has
//! joined, and says nothing of its group; Java, librdkafka and others then report an unknown topic to the application, or
//! see a topic that comes later only minutes later. So a retry topic that is asked for by name comes at once as well, for so
//! many groups at most that have not appeared since. A dead-letter topic does not.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use krocket_config::rules::{Kind, Live};
use krocket_features::{admin, escape};
use krocket_protocol::ApiKey;
use krocket_stack::{Handler, Ledger};
use parking_lot::Mutex;

const LIST_GROUPS: i16 = 4;
/// Groups whose topics are there, asked for by name, and that have not appeared yet.
const MAX_AWAITED: usize = 1000;

/// Creates `retry.<group>` and `dlq.<group>`.
pub struct Topics {
    ledger: Arc<dyn Ledger>,
    rules: Live,
    next: Arc<dyn Handler>,
    /// Groups whose topics are on their way.
    creating: Mutex<HashSet<String>>,
    awaited: Mutex<HashSet<String>>,
    failed: OnceLock<()>,
}

/// What becomes of a name in a Metadata request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// None of this feature's, or there.
    Pass,
    /// One of this feature's that is not there: asking does not make it.
    Unknown,
}

impl Topics {
    /// Through `next`.
    pub fn new(ledger: Arc<dyn Ledger>, rules: Live, next: Arc<dyn Handler>) -> Arc<Self> {
        let (creating, awaited) = (Mutex::default(), Mutex::default());
        Arc::new(Topics { ledger, rules, next, creating, awaited, failed: OnceLock::new() })
    }

    /// A consumer joins: has its group's topics created, without waiting.
    pub(crate) fn prepare(self: &Arc<Self>, group: &str) {
        self.awaited.lock().remove(group);
        if !self.missing(group) || !self.creating.lock().insert(group.to_owned()) {
            return;
        }
        let (topics, group) = (self.clone(), group.to_owned());
        tokio::spawn(async move {
            if let Err(error) = topics.create(&group).await
                && topics.failed.set(()).is_ok()
            {
                tracing::warn!(%error, group, "a group has no retry topics");
            }
            topics.creating.lock().remove(&group);
        });
    }

    /// True when a group ought to have topics that are not there.
    pub(crate) fn missing(&self, group: &str) -> bool {
        let rules = self.rules.get();
        rules.retry(group).enabled
            && [&rules.prefixes.retry, &rules.prefixes.dlq]
                .into_iter()
                .any(|prefix| escape::topic(prefix, group).is_none_or(|name| self.ledger.topic(&name).is_none()))
    }

    /// Something is produced to a group's retry topic: what is missing comes, where the group is there or one of them was.
    pub(crate) async fn complete(&self, group: &str, there: bool) {
        if (there || self.groups().await.contains(group))
            && let Err(error) = self.create(group).await
        {
            tracing::warn!(%error, group, "a group has no retry topics");
        }
    }

    /// A topic is asked for by name.
    pub(crate) async fn asked_for(&self, topic: &str) -> Named {
        if self.ledger.topic(topic).is_some() {
            return Named::Pass;
        }
        let rules = self.rules.get();
        let Some((kind @ (Kind::Retry | Kind::Dlq), _)) = rules.prefixes.kind(topic) else { return Named::Pass };
        let prefix = if kind == Kind::Retry { &rules.prefixes.retry } else { &rules.prefixes.dlq };
        let Some(group) = escape::group(prefix, topic) else { return Named::Unknown };
        if !rules.retry(&group).enabled {
            return Named::Pass;
        }
        let groups = self.groups().await;
        let comes = groups.contains(&group) || (kind == Kind::Retry && self.await_group(&group, &groups));
        if !comes {
            return Named::Unknown;
        }
        match self.create(&group).await {
            Ok(()) => Named::Pass,
            Err(error) => {
                tracing::warn!(%error, group, "a group has no retry topics");
                Named::Unknown
            }
        }
    }

    /// Creates a group's topics unless they are there.
    async fn create(&self, group: &str) -> Result<(), String> {
        let rules = self.rules.get();
        let policy = rules.retry(group);
        if !policy.enabled {
            return Ok(());
        }
        // Both or none: a name that is too long by its prefix is known before.
        let name = |prefix: &String| {
            escape::topic(prefix, group).ok_or_else(|| format!("{prefix}{group} is too long for a topic"))
        };
        for name in [name(&rules.prefixes.retry)?, name(&rules.prefixes.dlq)?] {
            if self.ledger.topic(&name).is_none() {
                admin::create_topic(&*self.next, &name, policy.partitions).await?;
            }
        }
        Ok(())
    }

    /// The groups there are.
    async fn groups(&self) -> HashSet<String> {
        let listed = admin::call(&*self.next, ApiKey::ListGroups, LIST_GROUPS, ListGroupsRequest::default()).await;
        match listed {
            Ok(ListGroupsResponse { groups, .. }) => groups.iter().map(|listed| listed.group_id.to_string()).collect(),
            Err(error) => {
                tracing::warn!(%error, "groups cannot be listed");
                HashSet::new()
            }
        }
    }

    /// True where there is room for one more that has to appear yet.
    fn await_group(&self, group: &str, groups: &HashSet<String>) -> bool {
        let mut awaited = self.awaited.lock();
        if awaited.len() >= MAX_AWAITED {
            awaited.retain(|awaited| !groups.contains(awaited));
        }
        if awaited.len() >= MAX_AWAITED && !awaited.contains(group) {
            tracing::warn!(group, "{MAX_AWAITED} retry topics wait for their groups: this one comes with its group");
            return false;
        }
        awaited.insert(group.to_owned());
        true
    }
}
