//! What a broker checks of a produced batch before it takes it: Kafka's `ProduceRequest.validateRecords` and
//! `LogValidator`, for magic 2.
//!
//! One rule is stricter than Kafka's: offset deltas have to be 0, 1, 2, ... in every batch. Kafka rewrites compressed
//! batches that break it and lets uncompressed ones through; no current client writes either.

use kafka_protocol::ResponseError as ErrorCode;
use thiserror::Error;

use super::batch::{BatchError, BatchHeader, NO_TIMESTAMP};
use super::record::RecordsError;
use super::walk::{Outline, walk_batch};
use super::walked::{Summary, Walked};

/// Most bytes that a batch's records may decompress to: checked when it is produced, so that all can read it later.
pub const MAX_DECOMPRESSED: usize = 128 << 20;
/// Most records that a [`Rejection`] names.
const MAX_NAMED: usize = 64;

/// What the topic demands of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// True for a compacted topic: every record needs a key.
    pub key_required: bool,
    /// The topic's `message.timestamp.type` and its bounds.
    pub timestamps: Timestamps,
    /// Most bytes that the records may decompress to.
    pub max_decompressed: usize,
}

/// Which timestamps are accepted, epoch ms.
#[derive(Clone, Copy, Debug)]
pub enum Timestamps {
    /// The broker's clock replaces the producer's.
    LogAppend,
    /// The producer's, within these bounds (inclusive).
    Create {
        /// Now less `message.timestamp.before.max.ms`, saturating.
        earliest: i64,
        /// Now plus `message.timestamp.after.max.ms`, saturating.
        latest: i64,
    },
}

/// What was learnt from a batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The batch's header.
    pub header: BatchHeader,
    /// Highest timestamp of its records. Where the header says otherwise, Kafka corrects the header
    /// ([`super::batch::set_max_timestamp`]).
    pub max_timestamp: i64,
    /// Offset delta of the first record that has it.
    pub max_timestamp_delta: i32,
}

/// Why a batch is refused, as the produce response says it.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Rejection {
    /// The partition's error code.
    pub code: ErrorCode,
    /// The partition's error message.
    pub message: String,
    /// The records at fault and why, the first 64 of them; empty where the batch as such is at fault.
    pub records: Vec<(i32, String)>,
}

impl Rejection {
    fn batch(code: ErrorCode, message: impl Into<String>) -> Self {
        Rejection { code, message: message.into(), records: Vec::new() }
    }
}

impl From<BatchError> for Rejection {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::Short { .. } | BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            BatchError::Magic(_) | BatchError::Invalid(_) => ErrorCode::InvalidRecord,
        };
        Rejection::batch(code, error.to_string())
    }
}

impl From<RecordsError> for Rejection {
    fn from(error: RecordsError) -> Self {
        let message = error.to_string();
        match error {
            RecordsError::Record { index, .. } => {
                let records = vec![(index, message.clone())];
                Rejection { code: ErrorCode::InvalidRecord, message, records }
            }
            RecordsError::Codec(_) => Rejection::batch(ErrorCode::UnsupportedCompressionType, message),
            RecordsError::TooLarge { .. } => Rejection::batch(ErrorCode::MessageTooLarge, message),
            RecordsError::Trailing | RecordsError::Compression { .. } => {
                Rejection::batch(ErrorCode::InvalidRecord, message)
            }
        }
    }
}

/// Checks the records of one partition in a Produce request: exactly one batch, sound, allowed to a client.
///
/// Memory is bounded whatever the batch claims: compressed records stream through a small window. (A raw snappy block
/// cannot be streamed; it takes at most 22 times its length.)
pub fn validate(records: &[u8], rules: &Rules) -> Result<Validated, Rejection> {
    validate_walked(records, rules, None)
}

/// The same, without a walk of its own where somebody walked over these very bytes before.
pub fn validate_walked(records: &[u8], rules: &Rules, walked: Option<&Walked>) -> Result<Validated, Rejection> {
    let header = BatchHeader::read(records)?;
    if records.len() != header.len {
        return Err(Rejection::batch(ErrorCode::InvalidRecord, "exactly one record batch per partition is allowed"));
    }
    header.check_crc(records)?;
    check_header(&header)?;
    let limit = rules.max_decompressed;
    let summary = match walked.and_then(|walked| walked.summary(records, limit)) {
        Some(summary) => summary,
        None => Summary::of(records, &header, limit, &mut ())?,
    };
    if !summary.keeps(rules) {
        return Err(name_faults(records, &header, rules)?);
    }
    let (max_timestamp, max_timestamp_delta) = summary.max;
    Ok(Validated { header, max_timestamp, max_timestamp_delta })
}

fn check_header(header: &BatchHeader) -> Result<(), Rejection> {
    let invalid = |message: String| Err(Rejection::batch(ErrorCode::InvalidRecord, message));
    header.codec().ok_or(RecordsError::Codec(header.compression()))?;
    if header.count <= 0 {
        return invalid(format!("a batch of {} records", header.count));
    }
    if header.last_offset_delta != header.count - 1 {
        return invalid(format!(
            "last offset delta {} in a batch of {} records",
            header.last_offset_delta, header.count
        ));
    }
    if header.is_control() {
        return invalid("clients are not allowed to write control records".to_owned());
    }
    if header.has_producer() && header.base_sequence < 0 {
        return invalid(format!("sequence {} of producer {}", header.base_sequence, header.producer_id));
    }
    if header.is_log_append_time() {
        let message = "a producer should not set the timestamp type to LogAppendTime";
        return Err(Rejection::batch(ErrorCode::InvalidTimestamp, message));
    }
    Ok(())
}

/// Walks once more to say which records break the rules.
#[cold]
fn name_faults(records: &[u8], header: &BatchHeader, rules: &Rules) -> Result<Rejection, RecordsError> {
    let mut faults = Faults::default();
    walk_batch(records, header, rules.max_decompressed, &mut (), |index, record| {
        faults.check(index, header, rules, record);
    })?;
    Ok(faults.into_rejection())
}

/// Collects what is wrong with records, so that a producer learns of all of them at once.
#[derive(Default)]
struct Faults {
    named: Vec<(i32, String)>,
    count: usize,
    timestamp: bool,
}

impl Faults {
    fn check(&mut self, index: i32, header: &BatchHeader, rules: &Rules, record: &Outline) {
        if record.offset_delta != index {
            self.add(index, false, || format!("offset delta {} where {index} was expected", record.offset_delta));
        }
        if rules.key_required && !record.has_key {
            self.add(index, false, || "a compacted topic cannot accept a record without a key".to_owned());
        }
        let timestamp = header.timestamp_of(record.timestamp_delta);
        if let Timestamps::Create { earliest, latest } = rules.timestamps
            && timestamp != NO_TIMESTAMP
            && !(earliest..=latest).contains(&timestamp)
        {
            let message =
                || format!("timestamp {timestamp} is out of range, it should be within [{earliest}, {latest}]");
            self.add(index, true, message);
        }
    }

    fn add(&mut self, index: i32, timestamp: bool, message: impl FnOnce() -> String) {
        self.count += 1;
        self.timestamp |= timestamp;
        if self.named.len() < MAX_NAMED {
            self.named.push((index, message()));
        }
    }

    fn into_rejection(self) -> Rejection {
        let code = if self.timestamp { ErrorCode::InvalidTimestamp } else { ErrorCode::InvalidRecord };
        let first = self.named.first().map(|(index, first)| format!(", the first is record {index}: {first}"));
        let message = format!("{} invalid records{}", self.count, first.unwrap_or_default());
        Rejection { code, message, records: self.named }
    }
}

#[cfg(test)]
mod tests;
