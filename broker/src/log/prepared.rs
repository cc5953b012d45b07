//! What consumers that read everything ask for next, found, read and checked while they are sent what they asked for before.
//!
//! Reading and sending are about as long, and on one thread of one connection they would take turns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Log;
use super::partition::{Partition, PartitionId};
use super::read::{Batches, Range};

/// Most bytes of a partition that are prepared.
const MOST: usize = 8 << 20;
/// What nobody asked for by then is dropped.
const EXPIRATION: Duration = Duration::from_secs(1);

/// Parts of partitions, by where they begin.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<HashMap<(PartitionId, i64), Part>>);

#[derive(Debug)]
struct Part {
    /// How far was to be read.
    up_to: i64,
    since: Instant,
    handover: Arc<Handover>,
}

#[derive(Debug, Default)]
struct Handover {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum State {
    /// Nobody reads it yet.
    #[default]
    Wanted,
    Reading,
    /// `None` when it could not be read, or somebody who would not wait reads it.
    Done(Option<Batches>),
}

impl Handover {
    /// False when nobody wants it any more.
    fn start(&self) -> bool {
        let mut state = self.state.lock();
        let wanted = matches!(*state, State::Wanted);
        if wanted {
            *state = State::Reading;
        }
        wanted
    }

    fn finish(&self, batches: Option<Batches>) {
        *self.state.lock() = State::Done(batches);
        self.changed.notify_all();
    }

    /// Ends the waiting for what was not finished.
    fn give_up(&self) {
        let mut state = self.state.lock();
        if !matches!(*state, State::Done(_)) {
            *state = State::Done(None);
            self.changed.notify_all();
        }
    }

    /// Waits for it if it is being read. One that waits for a thread is not waited for: whoever asks may have the last.
    fn take(&self, max_bytes: usize) -> Result<Option<Batches>, TooLong> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| matches!(state, State::Reading));
        if matches!(&*state, State::Done(Some(batches)) if batches.len() > max_bytes) {
            return Err(TooLong);
        }
        match std::mem::replace(&mut *state, State::Done(None)) {
            State::Done(batches) => Ok(batches.filter(|batches| !batches.chunks.is_empty())),
            State::Wanted | State::Reading => Ok(None),
        }
    }
}

/// It may be asked for again, when there is more room in the response.
struct TooLong;

impl Prepared {
    fn take(&self, partition: PartitionId, range: Range) -> Option<Batches> {
        let place = (partition, range.offset);
        let handover = self.0.lock().get(&place).filter(|part| part.up_to <= range.up_to)?.handover.clone();
        let batches = handover.take(range.max_bytes).ok()?;
        self.0.lock().remove(&place);
        batches
    }

    /// Forgets what was not asked for.
    pub(super) fn expire(&self) {
        self.0.lock().retain(|_, part| part.since.elapsed() < EXPIRATION);
    }

    /// `None` when somebody has it prepared already.
    fn want(&self, partition: PartitionId, range: Range) -> Option<Arc<Handover>> {
        let mut parts = self.0.lock();
        if parts.contains_key(&(partition, range.offset)) {
            return None;
        }
        let handover = Arc::<Handover>::default();
        let part = Part { up_to: range.up_to, since: Instant::now(), handover: handover.clone() };
        parts.insert((partition, range.offset), part);
        Some(handover)
    }
}

/// Parts to be read by whoever has the time.
pub(crate) struct Preparation {
    log: Log,
    parts: Vec<Wanted>,
}

struct Wanted {
    partition: Arc<Partition>,
    range: Range,
    handover: Arc<Handover>,
}

impl Log {
    /// Says what will be asked for; nothing is read before [`Preparation::read`]. `None` when there is nothing to do.
    pub(crate) fn prepare(&self, next: impl Iterator<Item = (Arc<Partition>, Range)>) -> Option<Preparation> {
        let prepared = &self.0.prepared;
        prepared.expire();
        if self.0.unsent.is_half_full() {
            return None;
        }
        let want = |(partition, range): (Arc<Partition>, Range)| {
            let range = Range { max_bytes: range.max_bytes.min(MOST), ..range };
            let handover = prepared.want(partition.id, range)?;
            Some(Wanted { partition, range, handover })
        };
        let parts: Vec<_> = next.filter_map(want).collect();
        (!parts.is_empty()).then(|| Preparation { log: self.clone(), parts })
    }

    /// What was prepared of the range, which may end before it. Waits for it if it is being read.
    pub(crate) fn prepared(&self, partition: &Partition, range: Range) -> Option<Batches> {
        self.0.prepared.take(partition.id, range)
    }
}

impl Preparation {
    /// Blocks on the disk; to be called within a runtime. Errors show up when the part is asked for.
    pub(crate) fn read(self) {
        let find = |part: &Wanted| {
            // What was just written needs no disk.
            let wanted = part.handover.start() && self.log.read_recent(&part.partition, part.range).is_none();
            if wanted { self.log.find(&part.partition, part.range).ok() } else { None }
        };
        let found = self.parts.iter().filter_map(|part| Some((&part.handover, find(part)?)));
        let (handovers, found): (Vec<_>, Vec<_>) = found.unzip();
        for (handover, batches) in handovers.into_iter().zip(self.log.take(found)) {
            handover.finish(batches.ok());
        }
    }
}

impl Drop for Preparation {
    /// Nobody waits for what was not read.
    fn drop(&mut self) {
        self.parts.iter().for_each(|part| part.handover.give_up());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread::JoinHandle;

    use super::super::tests::{append, batch, bytes, finish, range};
    use super::super::{Durability, LogConfig};
    use super::*;

    /// A log that keeps nothing in memory, and a partition of 20 batches of 3 records.
    async fn filled(dir: &Path) -> (Log, Arc<Partition>) {
        let log = Log::open(dir, LogConfig { recent_bytes: 0, ..LogConfig::default() }).expect("opens");
        let partition = log.partition(1).expect("a partition");
        for n in 0..20 {
            append(&log, &partition, finish(batch(&[n, n, n])), Durability::Written).await.expect("appended");
        }
        (log, partition)
    }

    fn prepare(log: &Log, partition: &Arc<Partition>, range: Range) -> Option<Preparation> {
        log.prepare(std::iter::once((partition.clone(), range)))
    }

    fn ask(log: &Log, partition: &Arc<Partition>, range: Range) -> JoinHandle<Option<Batches>> {
        let (log, partition) = (log.clone(), partition.clone());
        std::thread::spawn(move || log.prepared(&partition, range))
    }

    #[tokio::test]
    async fn what_was_prepared_is_what_would_be_read_and_is_given_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, partition) = filled(dir.path()).await;
        let wanted = range(9, &partition);
        prepare(&log, &partition, wanted).expect("to be read").read();
        assert!(prepare(&log, &partition, wanted).is_none(), "it is there");
        let [prepared, read] = [log.prepared(&partition, wanted), log.read(&partition, wanted).ok()]
            .map(|batches| batches.map(|batches| (bytes(&batches.chunks), batches.end)));
        assert_eq!(prepared.as_ref().map(|(_, end)| *end), Some(60));
        assert_eq!(prepared, read);
        assert!(log.prepared(&partition, wanted).is_none());
    }

    #[tokio::test]
    async fn only_what_may_be_seen_and_fits_is_given() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, partition) = filled(dir.path()).await;
        let wanted = range(9, &partition);
        prepare(&log, &partition, wanted).expect("to be read").read();
        assert!(log.prepared(&partition, Range { up_to: 30, ..wanted }).is_none(), "a transaction is open at 30");
        assert!(log.prepared(&partition, Range { max_bytes: 100, ..wanted }).is_none(), "the response is nearly full");
        assert!(log.prepared(&partition, Range { offset: 12, ..wanted }).is_none());
        assert!(log.prepared(&partition, wanted).is_some());
    }

    #[tokio::test]
    async fn who_asks_waits_for_a_read_but_not_for_its_begin() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, partition) = filled(dir.path()).await;
        let wanted = range(9, &partition);
        let late = prepare(&log, &partition, wanted).expect("to be read");
        assert!(log.prepared(&partition, wanted).is_none(), "nobody reads it yet");
        late.read();
        assert!(log.prepared(&partition, wanted).is_none(), "and nobody does");

        let begun = prepare(&log, &partition, wanted).expect("to be read");
        assert!(begun.parts[0].handover.start());
        let asks = ask(&log, &partition, wanted);
        begun.parts[0].handover.finish(log.read(&partition, wanted).ok());
        assert_eq!(asks.join().expect("ends").map(|batches| batches.end), Some(60));

        let failed = prepare(&log, &partition, wanted).expect("to be read");
        assert!(failed.parts[0].handover.start());
        let asks = ask(&log, &partition, wanted);
        drop(failed);
        assert!(asks.join().expect("ends").is_none(), "it is read by who asks");
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_forgotten_and_slow_clients_get_nothing_ahead() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, partition) = filled(dir.path()).await;
        let wanted = range(9, &partition);
        prepare(&log, &partition, wanted).expect("to be read").read();
        for part in log.0.prepared.0.lock().values_mut() {
            part.since -= EXPIRATION;
        }
        log.0.prepared.expire();
        assert!(log.prepared(&partition, wanted).is_none());
        let slow = log.0.unsent.reserve(40 << 20).expect("room");
        assert!(prepare(&log, &partition, wanted).is_none());
        drop(slow);
        assert!(prepare(&log, &partition, wanted).is_some());
    }
}
