//! What groups ask of the share partitions: the machine that hands out records, and knows which were read.

use krocket_protocol::ErrorCode;
use krocket_stack::BoxFuture;
use uuid::Uuid;

/// How far a group is in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOffset {
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub partition: i32,
    /// First offset that is not done with; `None` before the first fetch, when it is not decided where the group starts.
    pub start: Option<i64>,
    /// Records that are not done with, where that is known.
    pub lag: Option<i64>,
}

/// The share partitions of all groups. Everything is durable once its future is ready.
pub trait ShareState: Send + Sync + 'static {
    /// The group's members read these topics from now on, the new ones among them too. Comes again after a restart and
    /// whenever topics change.
    fn subscribed(&self, group: &str, topics: &[Uuid]);

    /// Every partition of which the group has state.
    fn offsets(&self, group: &str) -> Result<Vec<ShareOffset>, ErrorCode>;

    /// Starts partitions anew at these offsets, whatever was acquired or acknowledged: the group has no members. One
    /// result per partition, in order.
    fn reset<'a>(&'a self, group: &'a str, starts: &'a [(Uuid, i32, i64)])
    -> BoxFuture<'a, Vec<Result<(), ErrorCode>>>;

    /// Forgets these topics: the group has no members.
    fn delete_topics<'a>(&'a self, group: &'a str, topics: &'a [Uuid]) -> BoxFuture<'a, Result<(), ErrorCode>>;

    /// Forgets everything of the group, which has no members and is being deleted.
    fn delete<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<(), ErrorCode>>;
}

#[cfg(test)]
pub(in crate::group) mod memory {
    //! Start offsets without records, for tests.

    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;

    type Starts = BTreeMap<(Uuid, i32), Option<i64>>;

    #[derive(Default)]
    pub(in crate::group) struct Memory {
        pub(in crate::group) groups: Mutex<BTreeMap<String, Starts>>,
        pub(in crate::group) subscriptions: Mutex<Vec<(String, Vec<Uuid>)>>,
    }

    impl ShareState for Memory {
        fn subscribed(&self, group: &str, topics: &[Uuid]) {
            self.subscriptions.lock().push((group.to_owned(), topics.to_vec()));
        }

        fn offsets(&self, group: &str) -> Result<Vec<ShareOffset>, ErrorCode> {
            let offset = |(&(topic, partition), &start): (&(Uuid, i32), &Option<i64>)| ShareOffset {
                topic,
                partition,
                start,
                lag: None,
            };
            Ok(self.groups.lock().get(group).into_iter().flatten().map(offset).collect())
        }

        fn reset<'a>(
            &'a self,
            group: &'a str,
            starts: &'a [(Uuid, i32, i64)],
        ) -> BoxFuture<'a, Vec<Result<(), ErrorCode>>> {
            let mut groups = self.groups.lock();
            let own = groups.entry(group.to_owned()).or_default();
            own.extend(starts.iter().map(|&(topic, partition, start)| ((topic, partition), Some(start))));
            Box::pin(async { vec![Ok(()); starts.len()] })
        }

        fn delete_topics<'a>(&'a self, group: &'a str, topics: &'a [Uuid]) -> BoxFuture<'a, Result<(), ErrorCode>> {
            if let Some(own) = self.groups.lock().get_mut(group) {
                own.retain(|(topic, _), _| !topics.contains(topic));
            }
            Box::pin(async { Ok(()) })
        }

        fn delete<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<(), ErrorCode>> {
            self.groups.lock().remove(group);
            Box::pin(async { Ok(()) })
        }
    }
}
