//! Messages that nacks name by id: read where they are, put in the places of the nacks.

use std::collections::HashMap;

use bytes::Bytes;
use krocket_features::headers::MAX_DECOMPRESSED;
use krocket_parking::{Locator, Parking};
use krocket_protocol::ErrorCode;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Record, Records};
use krocket_stack::Refusal;
use krocket_stack::ledger::PartitionId;

use crate::nack::unreadable;

/// A batch of nacks may grow to this when ids are replaced by their messages.
const MAX_BATCH: usize = 64 << 20;

/// Batches that a request's nacks name messages of: each is opened once, and all together are bounded.
#[derive(Default)]
pub(crate) struct Opened {
    batches: HashMap<(PartitionId, i64), (Records, Vec<i64>)>,
    bytes: usize,
}

impl Opened {
    /// The batch that holds a message, and whether the message is hidden in it; `None` where it is gone.
    pub(crate) fn batch(&mut self, parking: &Parking, at: Locator) -> Result<Option<(Records, bool)>, Refusal> {
        let held = self.batches.iter().find(|((partition, base), (records, _))| {
            *partition == at.0 && (*base..=records.header().last_offset()).contains(&at.1)
        });
        if let Some((_, (records, hidden))) = held {
            return Ok(Some((records.clone(), hidden.binary_search(&at.1).is_ok())));
        }
        let stored = parking.ledger().batches(at.0, at.1, 1).map_err(|error| unreadable(&error))?;
        let Some(stored) = stored.into_iter().next() else { return Ok(None) };
        let Ok(header) = BatchHeader::read(&stored.batch) else { return Ok(None) };
        if header.is_control() {
            return Ok(None);
        }
        let Ok(records) = Records::open(&stored.batch, &header, MAX_DECOMPRESSED) else { return Ok(None) };
        self.bytes += records.section().len();
        if self.bytes > MAX_DECOMPRESSED {
            let message = "the batches that hold these messages are too large to be read at once: name fewer at a time";
            return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
        }
        let is_hidden = stored.hidden.binary_search(&at.1).is_ok();
        self.batches.insert((at.0, header.base_offset), (records.clone(), stored.hidden));
        Ok(Some((records, is_hidden)))
    }
}

/// A message that was named by its id.
pub(crate) struct Original {
    pub(crate) records: Records,
    pub(crate) offset: i64,
}

impl Original {
    pub(crate) fn record(&self) -> Option<Record<'_>> {
        self.records.iter().map_while(Result::ok).find(|record| record.offset == self.offset)
    }
}

/// The batch of nacks with the messages that were named by id in their places.
pub(crate) fn with_originals(nacks: &Records, originals: &[Option<Original>]) -> Result<Bytes, Refusal> {
    let mut builder = BatchBuilder::like(nacks.header());
    for (nack, original) in nacks.iter().map_while(Result::ok).zip(originals) {
        match original.as_ref().and_then(Original::record) {
            None => builder.push_record(&nack),
            Some(record) => {
                let given: Vec<Header<'_>> = nack.headers().map_while(Result::ok).collect();
                let own = record.headers().map_while(Result::ok);
                let kept = own.filter(|header| !given.iter().any(|given| given.key == header.key));
                let headers: Vec<Header<'_>> = kept.chain(given.iter().copied()).collect();
                builder.push(nack.offset, nack.timestamp, record.key, record.value, &headers);
            }
        }
        if builder.section_len() > MAX_BATCH {
            let message =
                format!("the messages named in this batch are more than {MAX_BATCH} bytes: name fewer at a time");
            return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
        }
    }
    let batch = builder.finish(LastOffset::Keep);
    batch.ok().flatten().ok_or_else(|| Refusal::new(ErrorCode::InvalidRecord, "the batch cannot be rebuilt"))
}
