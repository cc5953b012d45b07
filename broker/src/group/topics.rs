//! What groups ask of the topic table.

use std::collections::BTreeSet;

use uuid::Uuid;

/// Topics as groups see them.
pub trait TopicImage: Send + Sync + 'static {
    /// Moves whenever a topic is created or deleted or gains partitions.
    fn version(&self) -> u64;
    /// The id of a topic.
    fn id(&self, name: &str) -> Option<Uuid>;
    /// The name of a topic.
    fn name(&self, id: Uuid) -> Option<String>;
    /// How many partitions a topic has.
    fn partitions(&self, id: Uuid) -> Option<i32>;
    /// The names of all topics that a pattern may match.
    fn names(&self) -> Vec<String>;
}

/// Tells whether a group's topics have changed: their names, ids and partitions. Those that don't exist count for nothing.
pub(super) fn metadata_hash(topics: &dyn TopicImage, names: BTreeSet<&str>) -> u64 {
    let mut hash = Fnv::default();
    for name in names {
        if let Some(id) = topics.id(name) {
            hash.add(name.as_bytes());
            hash.add(id.as_bytes());
            hash.add(&topics.partitions(id).unwrap_or(0).to_be_bytes());
        }
    }
    hash.0
}

/// FNV-1a: the same in every build, for it is on disk.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
pub(super) mod fixed {
    //! Topics for tests.

    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;

    type Table = BTreeMap<String, (Uuid, i32)>;

    #[derive(Default)]
    pub(in crate::group) struct Fixed(pub(in crate::group) Mutex<(u64, Table)>);

    impl Fixed {
        pub(in crate::group) fn of(topics: &[(&str, i32)]) -> Self {
            let fixed = Fixed::default();
            for (name, partitions) in topics {
                fixed.set(name, *partitions);
            }
            fixed
        }

        /// Creates the topic or gives it more partitions.
        pub(in crate::group) fn set(&self, name: &str, partitions: i32) -> Uuid {
            let mut state = self.0.lock();
            state.0 += 1;
            let row = state.1.entry(name.to_owned()).or_insert_with(|| (id_of(name), partitions));
            row.1 = partitions;
            row.0
        }

        pub(in crate::group) fn remove(&self, name: &str) {
            let mut state = self.0.lock();
            state.0 += 1;
            state.1.remove(name);
        }
    }

    /// The same id for the same name in every run.
    pub(in crate::group) fn id_of(name: &str) -> Uuid {
        Uuid::from_u128(name.bytes().fold(1, |id, byte| (id << 8) + u128::from(byte)))
    }

    impl TopicImage for Fixed {
        fn version(&self) -> u64 {
            self.0.lock().0
        }

        fn id(&self, name: &str) -> Option<Uuid> {
            self.0.lock().1.get(name).map(|(id, _)| *id)
        }

        fn name(&self, id: Uuid) -> Option<String> {
            self.0.lock().1.iter().find(|(_, row)| row.0 == id).map(|(name, _)| name.clone())
        }

        fn partitions(&self, id: Uuid) -> Option<i32> {
            self.0.lock().1.values().find(|row| row.0 == id).map(|row| row.1)
        }

        fn names(&self) -> Vec<String> {
            self.0.lock().1.keys().cloned().collect()
        }
    }
}
