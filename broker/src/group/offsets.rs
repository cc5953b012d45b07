//! A group's committed offsets.

use std::collections::{BTreeMap, VecDeque};

use bytes::Buf;
use uuid::Uuid;

use super::journal::Write;
use super::persist;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The consumer's own note.
    pub metadata: String,
    /// When it was committed, epoch ms.
    pub committed_ms: i64,
    /// When it expires, epoch ms, if an old client asked for a retention of its own.
    pub expires_ms: Option<i64>,
    /// The topic it was committed for: another topic of the same name does not inherit it.
    pub topic_id: Uuid,
}

const FORMAT: u8 = 1;

impl Offset {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend(self.offset.to_be_bytes());
        out.extend(self.leader_epoch.to_be_bytes());
        out.extend(self.committed_ms.to_be_bytes());
        out.extend(self.expires_ms.unwrap_or(-1).to_be_bytes());
        out.extend(self.topic_id.as_bytes());
        out.extend(self.metadata.as_bytes());
        out
    }

    pub(crate) fn decode(mut input: &[u8]) -> Option<Offset> {
        if input.try_get_u8().ok()? != FORMAT {
            return None;
        }
        Some(Offset {
            offset: input.try_get_i64().ok()?,
            leader_epoch: input.try_get_i32().ok()?,
            committed_ms: input.try_get_i64().ok()?,
            expires_ms: Some(input.try_get_i64().ok()?).filter(|ms| *ms >= 0),
            topic_id: Uuid::from_u128(input.try_get_u128().ok()?),
            metadata: String::from_utf8(input.to_vec()).ok()?,
        })
    }

    /// True when nobody asked for it for long enough. `since_ms` is where the retention starts.
    fn is_expired(&self, since_ms: i64, now_ms: i64, retention_ms: i64) -> bool {
        match self.expires_ms {
            Some(expires_ms) => now_ms >= expires_ms,
            None => now_ms.saturating_sub(since_ms) >= retention_ms,
        }
    }
}

/// A change to one offset; None removes it.
#[derive(Clone, Debug)]
pub(crate) struct OffsetChange {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: Option<Offset>,
}

impl OffsetChange {
    pub(crate) fn write(&self, group: &str) -> Write {
        let key = persist::offset_key(group, &self.topic, self.partition);
        match &self.offset {
            Some(offset) => Write::Put { table: crate::log::tables::OFFSETS, key, value: offset.encode() },
            None => Write::Delete { table: crate::log::tables::OFFSETS, key },
        }
    }
}

/// Offsets by topic and partition: only what is durable can be read.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Offset>>,
    /// Changes on their way to the disk, oldest first.
    pending: VecDeque<(u64, Vec<OffsetChange>)>,
}

impl Offsets {
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&Offset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, Offset>)> {
        self.topics.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    /// True when there is none and none is coming.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.pending.is_empty()
    }

    pub(super) fn apply(&mut self, change: OffsetChange) {
        match change.offset {
            Some(offset) => {
                self.topics.entry(change.topic).or_default().insert(change.partition, offset);
            }
            None => {
                if let Some(partitions) = self.topics.get_mut(&change.topic) {
                    partitions.remove(&change.partition);
                    if partitions.is_empty() {
                        self.topics.remove(&change.topic);
                    }
                }
            }
        }
    }

    /// Remembers what commit number `commit` will change.
    pub(super) fn expect(&mut self, commit: u64, changes: Vec<OffsetChange>) {
        self.pending.push_back((commit, changes));
    }

    /// The commit is durable, and so are those before it: commits keep their order in the log, the tasks that wait for
    /// them don't.
    pub(super) fn settle(&mut self, commit: u64) {
        while self.pending.front().is_some_and(|(number, _)| *number <= commit) {
            for change in self.pending.pop_front().map(|(_, changes)| changes).unwrap_or_default() {
                self.apply(change);
            }
        }
    }

    /// Removals of the offsets that `remove` picks, those still on their way included.
    pub(super) fn removals(&self, mut remove: impl FnMut(&str, i32, &Offset) -> bool) -> Vec<OffsetChange> {
        let mut current: BTreeMap<(&str, i32), Option<&Offset>> = BTreeMap::new();
        for (topic, partitions) in &self.topics {
            current.extend(partitions.iter().map(|(partition, offset)| ((topic.as_str(), *partition), Some(offset))));
        }
        for change in self.pending.iter().flat_map(|(_, changes)| changes) {
            current.insert((&change.topic, change.partition), change.offset.as_ref());
        }
        let picked = current
            .into_iter()
            .filter(|((topic, partition), offset)| offset.is_some_and(|offset| remove(topic, *partition, offset)));
        picked
            .map(|((topic, partition), _)| OffsetChange { topic: topic.to_owned(), partition, offset: None })
            .collect()
    }

    /// Removals of what has outlived offsets.retention.minutes. `since_ms` says where an offset's retention starts;
    /// topics that are subscribed to keep theirs.
    pub(super) fn expired(
        &self,
        now_ms: i64,
        retention_ms: i64,
        since_ms: impl Fn(&Offset) -> i64,
        subscribed: impl Fn(&str) -> bool,
    ) -> Vec<OffsetChange> {
        self.removals(|topic, _, offset| {
            !subscribed(topic) && offset.is_expired(since_ms(offset), now_ms, retention_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(offset: i64) -> Offset {
        Offset {
            offset,
            leader_epoch: 3,
            metadata: "näht".to_owned(),
            committed_ms: 1_000,
            expires_ms: None,
            topic_id: Uuid::from_u128(7),
        }
    }

    fn change(partition: i32, at: Option<i64>) -> OffsetChange {
        OffsetChange { topic: "t".to_owned(), partition, offset: at.map(offset) }
    }

    #[test]
    fn an_offset_survives_its_encoding() {
        for expires_ms in [None, Some(0), Some(9)] {
            let offset = Offset { expires_ms, ..offset(5) };
            assert_eq!(Offset::decode(&offset.encode()), Some(offset));
        }
        assert_eq!(Offset::decode(&[1, 2, 3]), None);
        assert_eq!(Offset::decode(&[]), None);
    }

    #[test]
    fn changes_take_effect_in_the_order_of_the_log_whoever_hears_first() {
        let mut offsets = Offsets::default();
        offsets.expect(1, vec![change(0, Some(5))]);
        offsets.expect(2, vec![change(0, Some(10))]);
        offsets.expect(3, vec![change(0, None)]);
        assert_eq!(offsets.get("t", 0), None, "nothing is seen before it is durable");
        offsets.settle(2);
        assert_eq!(offsets.get("t", 0).map(|o| o.offset), Some(10));
        offsets.settle(1);
        assert_eq!(offsets.get("t", 0).map(|o| o.offset), Some(10));
        assert!(!offsets.is_empty());
        offsets.settle(3);
        assert!(offsets.is_empty());
    }

    #[test]
    fn removals_see_what_is_on_its_way() {
        let mut offsets = Offsets::default();
        offsets.apply(change(0, Some(1)));
        offsets.apply(change(1, Some(1)));
        offsets.expect(1, vec![change(1, None), change(2, Some(4))]);
        let removed: Vec<_> = offsets.removals(|_, _, _| true).iter().map(|c| c.partition).collect();
        assert_eq!(removed, [0, 2]);
    }

    #[test]
    fn offsets_expire_by_retention_or_by_their_own_time() {
        let cases = [
            // expires_ms, now, retention, subscribed, expired
            (None, 1_999, 1_000, false, false),
            (None, 2_000, 1_000, false, true),
            (None, 2_000, 1_000, true, false),
            (Some(1_500), 1_499, 1, false, false),
            (Some(1_500), 1_500, 1_000_000, false, true),
        ];
        for (expires_ms, now, retention, subscribed, expired) in cases {
            let mut offsets = Offsets::default();
            let offset = Offset { expires_ms, ..offset(5) };
            offsets.apply(OffsetChange { topic: "t".to_owned(), partition: 0, offset: Some(offset) });
            let changes = offsets.expired(now, retention, |o| o.committed_ms, |_| subscribed);
            assert_eq!(changes.len() == 1, expired, "{expires_ms:?} at {now}");
        }
    }
}
