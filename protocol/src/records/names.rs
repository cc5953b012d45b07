//! Which of some header names occur in a batch: what a feature asks before it takes a batch apart.
//!
//! Header keys are found by walking, not by searching: a walk touches few bytes of each record, so it is as fast as a
//! search and not fooled by a value that holds a name.

use bytes::Bytes;

use super::walk::HeaderKeys;
use super::walked::{Summary, Walked};

/// Most names in a set.
const MAX_NAMES: usize = 64;
/// Most bytes in a name.
const MAX_NAME_LEN: usize = 63;

/// A set of header names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: Vec<&'static str>,
    /// Bit n is set where a name has n bytes.
    lengths: u64,
}

impl Names {
    /// A set of at most 64 names of at most 63 bytes.
    ///
    /// # Panics
    /// Where there are more, or a longer one.
    pub fn new(names: &[&'static str]) -> Self {
        assert!(names.len() <= MAX_NAMES, "at most {MAX_NAMES} names");
        assert!(names.iter().all(|name| name.len() <= MAX_NAME_LEN), "names of at most {MAX_NAME_LEN} bytes");
        let lengths = names.iter().fold(0, |lengths, name| lengths | 1 << name.len());
        Names { names: names.to_vec(), lengths }
    }

    /// Walks over the records of a batch and notes which of the names occur, and what [`super::validate`] asks of all records, so
    /// that it need not walk again. Nothing is copied; what is compressed streams through a small window, at most `limit` bytes
    /// of it.
    pub fn walk(&self, batch: &Bytes, limit: usize) -> Walked {
        Walked::new(batch, limit, |header| {
            let mut search = Search { names: self, mentioned: Mentioned::default() };
            let summary = Summary::of(batch, header, limit, &mut search)?;
            Ok((search.mentioned, summary))
        })
    }
}

/// Names of a set that occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mentioned(u64);

impl Mentioned {
    /// True when none does.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when the name at this place of the set does.
    pub fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }
}

struct Search<'a> {
    names: &'a Names,
    mentioned: Mentioned,
}

impl HeaderKeys for Search<'_> {
    const MAX_LEN: usize = MAX_NAME_LEN;

    fn see(&mut self, key: &[u8]) {
        if self.names.lengths & 1 << key.len() == 0 {
            return;
        }
        if let Some(index) = self.names.names.iter().position(|name| name.as_bytes() == key) {
            self.mentioned.0 |= 1 << index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::batch::HEADER_LEN;
    use crate::records::{BatchBuilder, Codec, Header, LastOffset};

    fn mentioned(codec: Codec, records: &[(&[u8], &[&[u8]])]) -> Vec<usize> {
        let names = Names::new(&["TAGS", "KEYS", "TIMER_DELAY_MS"]);
        let mut builder = BatchBuilder::new(0, 0).codec(codec);
        for (offset, (value, keys)) in records.iter().enumerate() {
            let headers: Vec<_> = keys.iter().map(|key| Header { key, value: Some(b"TAGS") }).collect();
            builder.push(offset as i64, 0, Some(b"KEYS"), Some(value), &headers);
        }
        let batch = builder.finish(LastOffset::Trim).expect("builds").expect("records");
        let walked = names.walk(&batch, 1 << 20);
        assert!(walked.is_sound());
        let found = walked.mentioned();
        assert_eq!(found.is_empty(), (0..3).all(|index| !found.has(index)));
        (0..3).filter(|index| found.has(*index)).collect()
    }

    #[test]
    fn names_are_found_as_header_keys_only() {
        let long = [b'x'; 70_000];
        for codec in Codec::ALL {
            assert_eq!(mentioned(codec, &[(b"TAGS KEYS", &[]), (b"TIMER_DELAY_MS", &[b"", b"tags", &long])]), []);
            assert_eq!(mentioned(codec, &[(b"", &[b"other", b"KEYS"]), (&long, &[b"TIMER_DELAY_MS"])]), [1, 2]);
            assert_eq!(mentioned(codec, &[(b"", &[b"TAGS", b"TAGS", b"KEYS"])]), [0, 1]);
        }
    }

    #[test]
    fn a_malformed_batch_mentions_nothing() {
        let mut builder = BatchBuilder::new(0, 0);
        builder.push(0, 0, None, None, &[Header { key: b"TAGS", value: None }]);
        let mut batch = builder.finish(LastOffset::Trim).expect("builds").expect("records").to_vec();
        let names = Names::new(&["TAGS"]);
        assert!(names.walk(&batch.clone().into(), 1 << 20).mentioned().has(0));
        batch[HEADER_LEN] += 2;
        let walked = names.walk(&batch.into(), 1 << 20);
        assert!(!walked.is_sound() && walked.mentioned().is_empty());
    }
}
