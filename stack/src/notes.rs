//! What layers add to a batch on its way to the log: records that nobody is to see yet, and facts to be written with it.

use smallvec::SmallVec;

/// A change of a table of the ledger. See [`crate::ledger`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Sets a key.
    Put {
        /// Its table.
        table: u8,
        /// The key.
        key: Template,
        /// Its new value.
        value: Template,
        /// The key is known not to be there: the backend need not look.
        new: bool,
    },
    /// Removes a key, if it is there.
    Delete {
        /// Its table.
        table: u8,
        /// The key.
        key: Vec<u8>,
        /// What is there, where the caller has read it and nobody can have changed it since: the backend need not look.
        was: Option<Written>,
    },
}

/// Where the log has the value of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Known to the backend.
    pub position: u64,
    /// Length of the value in bytes.
    pub len: u32,
}

impl Row {
    /// Sets a key.
    pub fn put(table: u8, key: impl Into<Template>, value: impl Into<Template>) -> Self {
        Row::Put { table, key: key.into(), value: value.into(), new: false }
    }

    /// Sets a key that cannot be there, as one that holds the offset of the record with which it is written.
    pub fn put_new(table: u8, key: impl Into<Template>, value: impl Into<Template>) -> Self {
        Row::Put { table, key: key.into(), value: value.into(), new: true }
    }

    /// The table that it changes.
    pub fn table(&self) -> u8 {
        match self {
            Row::Put { table, .. } | Row::Delete { table, .. } => *table,
        }
    }

    /// Removes a key.
    pub fn delete(table: u8, key: impl Into<Vec<u8>>) -> Self {
        Row::Delete { table, key: key.into(), was: None }
    }

    /// Removes a key that was read before.
    pub fn delete_known(table: u8, key: impl Into<Vec<u8>>, was: Written) -> Self {
        Row::Delete { table, key: key.into(), was: Some(was) }
    }
}

/// Bytes with places for the offsets of records that are not in the log yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where in `bytes` the offset of which record of the batch goes.
    offsets: SmallVec<[(u32, i32); 1]>,
}

impl Template {
    /// Adds bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds the offset that the record at this place of the batch gets, eight bytes big-endian.
    pub fn offset_of(mut self, record: i32) -> Self {
        self.offsets.push((self.bytes.len() as u32, record));
        self.bytes.extend_from_slice(&[0; 8]);
        self
    }

    /// The bytes in a batch with this base offset.
    pub fn fill(mut self, base_offset: i64) -> Vec<u8> {
        for (at, record) in self.offsets {
            let at = at as usize;
            self.bytes[at..at + 8].copy_from_slice(&(base_offset + i64::from(record)).to_be_bytes());
        }
        self.bytes
    }
}

impl From<Vec<u8>> for Template {
    fn from(bytes: Vec<u8>) -> Self {
        Template { bytes, offsets: SmallVec::new() }
    }
}

impl From<&[u8]> for Template {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

/// What layers want of the backend with one batch. Nothing, for nearly all batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Places in the batch of records that fetch leaves out for ever, ascending: parked records and commands.
    pub hidden: Vec<i32>,
    /// Written in the frame of the batch: both or neither are there after a crash. In order.
    pub rows: Vec<Row>,
    /// The batch is noted in [`crate::ledger::tables::WORK`] for whoever indexes it behind the produce path.
    pub indexed: bool,
    /// Bytes that the client sent, where a layer has made more of them: max.message.bytes is a limit of the client's.
    pub sent: Option<usize>,
}

impl Notes {
    /// True when the backend has nothing to do but append.
    pub fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.rows.is_empty() && !self.indexed
    }

    /// Hides a record, if it is not hidden yet.
    pub fn hide(&mut self, record: i32) {
        if let Err(at) = self.hidden.binary_search(&record) {
            self.hidden.insert(at, record);
        }
    }

    /// True when another layer has hidden this record: it is not for this one any more.
    pub fn hides(&self, record: i32) -> bool {
        self.hidden.binary_search(&record).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_offsets_where_they_were_asked_for() {
        let template = Template::default().bytes(b"ab").offset_of(3).bytes(b"c").offset_of(0);
        let mut expected = b"ab".to_vec();
        expected.extend_from_slice(&1003_i64.to_be_bytes());
        expected.push(b'c');
        expected.extend_from_slice(&1000_i64.to_be_bytes());
        assert_eq!(template.fill(1000), expected);
        assert_eq!(Template::from(&b"plain"[..]).fill(7), b"plain");
    }

    #[test]
    fn hidden_records_are_kept_in_order_and_once() {
        let mut notes = Notes::default();
        assert!(notes.is_empty());
        [5, 1, 5, 3].into_iter().for_each(|record| notes.hide(record));
        assert_eq!(notes.hidden, [1, 3, 5]);
        assert!(notes.hides(3) && !notes.hides(2) && !notes.is_empty());
    }
}
