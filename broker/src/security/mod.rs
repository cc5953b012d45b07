//! What administrators set about users: ACLs, SCRAM credentials, client quotas. Each kind is a table of the log that is whole
//! in memory, as a snapshot that others decide by without a lock.

pub(crate) mod acls;
pub(crate) mod credentials;
pub(crate) mod mutations;
pub(crate) mod quotas;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::log::{Durability, Log, StorageError, Write};
use crate::topics::LoadError;

/// The rows' format; a later one is refused.
const FORMAT: u8 = 1;
/// Longest key of a row: what an op of the log carries.
const MAX_KEY: usize = u16::MAX as usize;

/// All rows of a kind.
pub(crate) type All<K> = BTreeMap<<K as Kind>::Key, <K as Kind>::Value>;

/// A table of which there is a snapshot.
pub(crate) trait Kind: 'static {
    /// Where its rows are.
    const TABLE: u8;
    /// One of them, for errors.
    const WHAT: &str;
    type Key: Ord + Clone + Send;
    type Value: PartialEq + Clone + Send;
    /// What others decide by.
    type Snapshot: Default + Send + Sync;

    fn key(key: &Self::Key) -> Vec<u8>;
    fn value(value: &Self::Value) -> Vec<u8>;
    /// The way back; an error says what is wrong with the row.
    fn decode(key: &[u8], value: &[u8]) -> Result<(Self::Key, Self::Value), String>;
    fn all(snapshot: &Self::Snapshot) -> All<Self>
    where
        Self: Sized;
    fn publish(snapshot: &Self::Snapshot, all: All<Self>)
    where
        Self: Sized;
}

/// All of a kind and the right to change them.
pub(crate) struct Store<K: Kind> {
    log: Log,
    snapshot: Arc<K::Snapshot>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl<K: Kind> Store<K> {
    /// Reads what is stored.
    pub(crate) fn load(log: &Log) -> Result<Arc<Self>, LoadError> {
        let mut all = All::<K>::new();
        for row in log.scan(K::TABLE, b"") {
            let (key, value) = row?;
            let (key, value) = K::decode(&key, &value).map_err(|why| LoadError::Row { what: K::WHAT, why })?;
            all.insert(key, value);
        }
        let snapshot = Arc::new(K::Snapshot::default());
        K::publish(&snapshot, all);
        Ok(Arc::new(Store { log: log.clone(), snapshot, changing: Mutex::default() }))
    }

    /// What others read.
    pub(crate) fn snapshot(&self) -> &Arc<K::Snapshot> {
        &self.snapshot
    }

    /// Stores what `change` makes of them as one frame, then makes it visible. It happens even if the caller goes away.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut All<K>) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let store = self.clone();
        let done = tokio::spawn(async move {
            let _one = store.changing.lock().await;
            let before = K::all(&store.snapshot);
            let mut after = before.clone();
            let outcome = change(&mut after);
            let writes = difference::<K>(&before, &after);
            if !writes.is_empty() {
                store.log.commit(writes, Durability::Synced).await?;
                K::publish(&store.snapshot, after);
            }
            Ok(outcome)
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a change of {} was cut off", K::WHAT);
            Err(StorageError { message: "the broker is shutting down".to_owned(), passing: false, damaged: false })
        })
    }
}

fn difference<K: Kind>(before: &All<K>, after: &All<K>) -> Vec<Write> {
    let put = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let put = put.map(|(key, value)| Write::Put { table: K::TABLE, key: K::key(key), value: K::value(value) });
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| Write::Delete { table: K::TABLE, key: K::key(key) });
    put.chain(gone).collect()
}

/// A text with its length before it.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.as_bytes());
}

/// The way back from [`put_text`]; `rest` goes on after it.
fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let (text, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

fn check_format(format: u8) -> Result<(), String> {
    match format == FORMAT {
        true => Ok(()),
        false => Err(format!("its format is {format}, this version of krocket reads {FORMAT}")),
    }
}
