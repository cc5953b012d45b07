//! What one walk over a batch learnt, for all who would walk over it.

use bytes::Bytes;

use super::batch::{BatchHeader, NO_TIMESTAMP};
use super::names::Mentioned;
use super::record::RecordsError;
use super::validate::{Rules, Timestamps};
use super::walk::{HeaderKeys, Outline, walk_batch};

/// What a walk over a batch found; nothing in a malformed one, of which [`super::validate`] says what is wrong.
#[derive(Clone, Debug)]
pub struct Walked {
    /// Held, so that nothing else comes to lie there.
    batch: Bytes,
    limit: usize,
    found: Option<(Mentioned, Summary)>,
}

impl Walked {
    pub(super) fn new(
        batch: &Bytes,
        limit: usize,
        walk: impl FnOnce(&BatchHeader) -> Result<(Mentioned, Summary), RecordsError>,
    ) -> Self {
        let header = BatchHeader::read(batch).ok().filter(|header| header.len == batch.len());
        let found = header.and_then(|header| walk(&header).ok());
        Walked { batch: batch.clone(), limit, found }
    }

    /// Whether it was about this batch: the same bytes at the same place.
    pub fn is_of(&self, batch: &[u8]) -> bool {
        std::ptr::eq(&*self.batch, batch)
    }

    /// Which names occur.
    pub fn mentioned(&self) -> Mentioned {
        self.found.map(|(mentioned, _)| mentioned).unwrap_or_default()
    }

    /// False where a record is malformed, or there are more bytes than the limit.
    pub fn is_sound(&self) -> bool {
        self.found.is_some()
    }

    /// What is known of this batch, unless it was allowed more bytes than `limit`.
    pub(super) fn summary(&self, batch: &[u8], limit: usize) -> Option<Summary> {
        let (_, summary) = self.found.filter(|_| self.limit <= limit && self.is_of(batch))?;
        Some(summary)
    }
}

/// What rules ask of all records of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// Offset deltas are 0, 1, 2, ...
    contiguous: bool,
    /// Every record has a key.
    keyed: bool,
    /// Lowest and highest timestamp but for [`NO_TIMESTAMP`].
    timestamps: (i64, i64),
    /// Highest timestamp and the offset delta of the first record that has it.
    pub(super) max: (i64, i32),
}

impl Summary {
    pub(super) fn of(
        batch: &[u8],
        header: &BatchHeader,
        limit: usize,
        keys: &mut impl HeaderKeys,
    ) -> Result<Self, RecordsError> {
        let timestamps = (i64::MAX, i64::MIN);
        let mut summary = Summary { contiguous: true, keyed: true, timestamps, max: (NO_TIMESTAMP, 0) };
        walk_batch(batch, header, limit, keys, |index, record| summary.add(index, header, record))?;
        Ok(summary)
    }

    #[inline]
    fn add(&mut self, index: i32, header: &BatchHeader, record: &Outline) {
        self.contiguous &= record.offset_delta == index;
        self.keyed &= record.has_key;
        let timestamp = header.timestamp_of(record.timestamp_delta);
        if timestamp > self.max.0 {
            self.max = (timestamp, index);
        }
        if timestamp != NO_TIMESTAMP {
            let (low, high) = self.timestamps;
            self.timestamps = (low.min(timestamp), high.max(timestamp));
        }
    }

    /// True when no record breaks a rule.
    pub(super) fn keeps(&self, rules: &Rules) -> bool {
        let (low, high) = self.timestamps;
        let timely = match rules.timestamps {
            Timestamps::LogAppend => true,
            Timestamps::Create { earliest, latest } => earliest <= low && high <= latest,
        };
        self.contiguous && (self.keyed || !rules.key_required) && timely
    }
}
