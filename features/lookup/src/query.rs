//! Questions to the index. What it answers is held against the records themselves, so that it is exact.

use krocket_features::MessageId;
use krocket_features::headers::{MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID, UNIQ_KEY};
use krocket_protocol::records::{BatchHeader, Record, Records};
use krocket_stack::LedgerError;
use krocket_stack::ledger::{PartitionId, tables};

use crate::index::{By, Lookup, parse, prefix, words};

/// A message as it is in the log.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) at: (PartitionId, i64),
    /// Not to be seen where it is.
    pub(crate) hidden: bool,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Message {
    /// Text of the last header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name.as_bytes())?;
        found.1.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// What a message is looked for by.
pub(crate) struct Wanted<'a> {
    pub(crate) by: By,
    pub(crate) text: &'a [u8],
    pub(crate) topic: Option<&'a str>,
    /// Epoch ms, the end excluded.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Lookup {
    /// The message of an id; `None` where there is none.
    pub(crate) fn message(&self, id: &MessageId) -> Result<Option<Message>, LedgerError> {
        let Some(topic) = self.ledger.topic(&id.topic) else { return Ok(None) };
        let Some(partition) = usize::try_from(id.partition).ok().and_then(|index| topic.partitions.get(index)) else {
            return Ok(None);
        };
        self.read(*partition, id.offset, |_| true)
    }

    fn read(
        &self,
        partition: PartitionId,
        offset: i64,
        is_it: impl Fn(&Record<'_>) -> bool,
    ) -> Result<Option<Message>, LedgerError> {
        let Some(info) = self.ledger.partition(partition) else { return Ok(None) };
        if offset >= info.end {
            return Ok(None);
        }
        let Some(stored) = self.ledger.batches(partition, offset, 1)?.into_iter().next() else { return Ok(None) };
        let hidden = stored.hidden.binary_search(&offset).is_ok();
        // What retention took is gone, though a parked neighbour may have kept its bytes.
        if offset < info.log_start && !hidden {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::read(&stored.batch) else { return Ok(None) };
        let Ok(records) = Records::open(&stored.batch, &header, MAX_DECOMPRESSED) else { return Ok(None) };
        let found = records.iter().map_while(Result::ok).find(|record| record.offset == offset);
        Ok(found.filter(|record| is_it(record)).map(|record| Message {
            id: MessageId { topic: info.topic.to_string(), partition: info.index, offset },
            at: (partition, offset),
            hidden,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map_while(Result::ok)
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }))
    }

    /// Messages in the order of their times, after the row `after`; with the row of the last where there may be more.
    pub(crate) fn find(
        &self,
        wanted: &Wanted<'_>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Message>, Option<Vec<u8>>), LedgerError> {
        let prefix = prefix(wanted.by, wanted.text);
        let mut start = prefix.clone();
        start.extend_from_slice(&wanted.from.max(0).to_be_bytes());
        if let Some(after) = after {
            start = [after, &[0]].concat();
        }
        let (mut found, mut last, mut stale, mut failed) = (Vec::new(), None, 0, None);
        let is_it = |record: &Record<'_>| match wanted.by {
            By::Key => words(record).any(|word| word == wanted.text),
            By::Uniq => record.header(UNIQ_KEY.as_bytes()).flatten() == Some(wanted.text),
            By::Origin => record.header(ORIGIN_MESSAGE_ID.as_bytes()).flatten() == Some(wanted.text),
            By::RecordKey => record.key == Some(wanted.text),
        };
        self.ledger.scan(tables::LOOKUP, &start, &mut |key, _| {
            let Some((timestamp, partition, offset)) = parse(key).filter(|_| key.starts_with(&prefix)) else {
                last = None;
                return false;
            };
            if timestamp >= wanted.to || found.len() >= limit {
                last = last.take().filter(|_| timestamp < wanted.to);
                return false;
            }
            last = Some(key.to_vec());
            let of_topic = wanted
                .topic
                .is_none_or(|topic| self.ledger.partition(partition).is_some_and(|info| *info.topic == *topic));
            if of_topic {
                match self.read(partition, offset, is_it) {
                    Ok(Some(message)) => found.push(message),
                    Ok(None) => stale += 1,
                    Err(error) => failed = Some(error),
                }
            }
            failed.is_none() && stale < 100_000
        })?;
        match failed {
            Some(error) => Err(error),
            None => {
                let more = last.filter(|_| found.len() >= limit);
                Ok((found, more))
            }
        }
    }

    /// Visible messages of a topic by time, from a place on.
    pub(crate) fn browse(
        &self,
        topic: &str,
        (from, to): (i64, i64),
        after: Option<(PartitionId, i64)>,
        limit: usize,
    ) -> Result<Option<Vec<Message>>, LedgerError> {
        let Some(topic) = self.ledger.topic(topic) else { return Ok(None) };
        let mut found = Vec::new();
        for partition in topic.partitions {
            let Some(info) = self.ledger.partition(partition) else { continue };
            let mut position = match after {
                Some((of, _)) if partition < of => continue,
                Some((of, offset)) if partition == of => offset + 1,
                _ => info.log_start,
            };
            while position < info.high_watermark && found.len() < limit {
                let stored = self.ledger.batches(partition, position, 1 << 20)?;
                if stored.is_empty() {
                    break;
                }
                for stored in stored {
                    let Ok(header) = BatchHeader::read(&stored.batch) else { continue };
                    let (begin, end) = (position, header.last_offset() + 1);
                    position = position.max(end);
                    if header.max_timestamp < from {
                        continue;
                    }
                    for offset in begin.max(header.base_offset)..end {
                        if found.len() == limit || offset >= info.high_watermark {
                            break;
                        }
                        let in_time = |record: &Record<'_>| (from..to).contains(&record.timestamp);
                        found.extend(self.read(partition, offset, in_time)?.filter(|message| !message.hidden));
                    }
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Memory, lookup, record};

    fn offsets(found: &[Message]) -> Vec<(PartitionId, i64)> {
        found.iter().map(|message| message.at).collect()
    }

    fn by_key(text: &'static str) -> Wanted<'static> {
        Wanted { by: By::Key, text: text.as_bytes(), topic: None, from: 0, to: i64::MAX }
    }

    /// Timestamps are 1000 + offset.
    fn indexed() -> (Arc<Memory>, Arc<Lookup>) {
        let memory = Memory::new(&["orders", "orders", "returns"]);
        for offset in 0..4 {
            memory.append(0, offset, &record(&[("KEYS", "a b")]));
            memory.append(2, offset, &record(&[("KEYS", "a")]));
        }
        memory.append(1, 0, &record(&[("KEYS", "ab")]));
        let lookup = lookup(&memory, &["*"]);
        assert_eq!(lookup.rebuild_now(b"1", || false), Ok(true));
        (memory, lookup)
    }

    #[test]
    fn what_is_found_is_exact() {
        let (memory, lookup) = indexed();
        let find = |wanted: &Wanted<'_>| offsets(&lookup.find(wanted, None, 100).expect("finds").0);
        assert_eq!(find(&by_key("b")), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        assert_eq!(find(&by_key("ab")), [(1, 0)]);
        assert_eq!(find(&by_key("A")), []);
        assert_eq!(find(&Wanted { by: By::Uniq, ..by_key("a") }), []);
        assert_eq!(find(&Wanted { topic: Some("returns"), ..by_key("a") }), [(2, 0), (2, 1), (2, 2), (2, 3)]);
        assert_eq!(find(&Wanted { from: 1001, to: 1003, ..by_key("b") }), [(0, 1), (0, 2)]);

        // A row of the same hash whose record says another thing.
        let foreign = [&prefix(By::Key, b"b")[..], &1000_i64.to_be_bytes(), &[0, 0, 0, 1], &[0; 8]].concat();
        memory.put(tables::LOOKUP, &foreign, b"");
        memory.set_log_start(0, 2);
        assert_eq!(find(&by_key("b")), [(0, 2), (0, 3)], "neither that nor what retention took");
        memory.delete(0);
        assert_eq!(find(&by_key("b")), []);
    }

    #[test]
    fn pages_give_each_message_once() {
        let (_, lookup) = indexed();
        for limit in 1..10 {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let (found, last) = lookup.find(&by_key("a"), after.as_deref(), limit).expect("finds");
                assert!(found.len() <= limit, "{limit}");
                all.extend(offsets(&found));
                after = last;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, [(0, 0), (2, 0), (0, 1), (2, 1), (0, 2), (2, 2), (0, 3), (2, 3)], "pages of {limit}");
        }
    }

    #[test]
    fn hidden_messages_are_read_by_id_and_not_browsed() {
        let memory = Memory::new(&["orders"]);
        for offset in 0..4 {
            memory.append(0, offset, &record(&[]));
            if offset == 1 {
                memory.hide(0, offset);
            }
        }
        let lookup = lookup(&memory, &["*"]);
        memory.set_log_start(0, 2);
        let hidden =
            |id: &str| lookup.message(&id.parse().expect("an id")).expect("reads").map(|message| message.hidden);
        for (id, expected) in [
            ("orders:0:0", None),
            ("orders:0:1", Some(true)),
            ("orders:0:2", Some(false)),
            ("orders:0:4", None),
            ("orders:1:0", None),
            ("nothing:0:0", None),
        ] {
            assert_eq!(hidden(id), expected, "{id}");
        }
        memory.set_log_start(0, 0);
        let browse = |times, after, limit| {
            offsets(&lookup.browse("orders", times, after, limit).expect("reads").expect("a topic"))
        };
        assert_eq!(browse((0, i64::MAX), None, 10), [(0, 0), (0, 2), (0, 3)]);
        assert_eq!(browse((0, i64::MAX), None, 2), [(0, 0), (0, 2)]);
        assert_eq!(browse((0, i64::MAX), Some((0, 2)), 2), [(0, 3)]);
        assert_eq!(browse((1000, 1003), None, 10), [(0, 0), (0, 2)]);
        assert!(lookup.browse("nothing", (0, 1), None, 10).expect("reads").is_none());
    }
}
