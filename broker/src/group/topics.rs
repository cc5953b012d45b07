//! What groups ask of the topic table.

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
