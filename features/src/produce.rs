//! What layers that look into Produce requests have in common.

use kafka_protocol::messages::ProduceResponse;
use krocket_protocol::records::{BatchHeader, Record, Records};
use krocket_stack::{Ledger, Produce, ProducePartition, Refusal};

use crate::headers::{KEYS, MAX_DECOMPRESSED, UNIQ_KEY};

/// Longest UNIQ_KEY: it goes into keys of rows.
const MAX_UNIQ_KEY: usize = 4096;
/// Longest KEYS: of all properties of a RocketMQ message together.
const MAX_KEYS: usize = i16::MAX as usize;

/// Fills in the names of topics that were given by id (Produce from version 13 on). Unknown ones stay nameless: the
/// backend refuses them.
pub fn resolve(produce: &mut Produce, ledger: &dyn Ledger) {
    for topic in produce.topics.iter_mut().filter(|topic| topic.name.is_empty() && !topic.id.is_nil()) {
        if let Some(info) = ledger.topic_by_id(topic.id) {
            topic.name = info.name;
        }
    }
}

/// A batch's records; `None` where it is malformed: the backend says what is wrong with it.
pub fn records(partition: &ProducePartition) -> Option<Records> {
    let header = BatchHeader::read(&partition.records).ok().filter(|header| header.len == partition.records.len())?;
    Records::open(&partition.records, &header, MAX_DECOMPRESSED).ok()
}

/// Producer id, epoch and sequence of a record: the same when an idempotent producer sends it again.
pub type Numbered = (i64, i16, i32);

/// Who numbered the record at this place of a batch.
pub fn numbered(header: &BatchHeader, place: i32) -> Option<Numbered> {
    let sequence = krocket_protocol::records::batch::add_sequence(header.base_sequence, place);
    header.has_producer().then_some((header.producer_id, header.producer_epoch, sequence))
}

/// Commands count at once, whatever becomes of a transaction around them: they are not taken in one.
pub fn outside_of_transactions(header: &BatchHeader, place: i32, name: &str) -> Result<(), Refusal> {
    if header.is_transactional() {
        let message = format!("{name} in a Kafka transaction: send it outside of one, it counts at once");
        return Err(Refusal::record(place, message));
    }
    Ok(())
}

/// Text of a header; the last of a name counts. A refusal where it is null or not UTF-8.
pub fn text<'a>(record: &Record<'a>, place: i32, name: &str) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = record.header(name.as_bytes()) else { return Ok(None) };
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    text.map(Some)
        .ok_or_else(|| Refusal::record(place, format!("header {name} is not text: a UTF-8 value is expected")))
}

/// The client's id of a message; an empty one is none.
pub fn uniq_key<'a>(record: &Record<'a>, place: i32) -> Result<Option<&'a str>, Refusal> {
    Ok(short(record, place, UNIQ_KEY, MAX_UNIQ_KEY)?.filter(|uniq| !uniq.is_empty()))
}

/// Business keys, separated by spaces.
pub fn keys<'a>(record: &Record<'a>, place: i32) -> Result<Option<&'a str>, Refusal> {
    short(record, place, KEYS, MAX_KEYS)
}

fn short<'a>(record: &Record<'a>, place: i32, name: &str, max: usize) -> Result<Option<&'a str>, Refusal> {
    match text(record, place, name)? {
        Some(text) if text.len() > max => {
            Err(Refusal::record(place, format!("{name} is {} bytes long: at most {max} are possible", text.len())))
        }
        text => Ok(text),
    }
}

/// A decimal number in a header, `what` saying of what.
pub fn number(record: &Record<'_>, place: i32, name: &str, what: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = text(record, place, name)? else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|_| digits) {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::record(place, format!("{name}={} is not {what}: digits are expected", brief(text)))),
    }
}

/// Text for a message, cut where it is long.
pub fn brief(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The error of a partition in a response, where there is one. A partition that was not answered has failed.
pub fn error_of(response: &ProduceResponse, topic: usize, partition: usize) -> Option<String> {
    let answer = response.responses.get(topic).and_then(|topic| topic.partition_responses.get(partition));
    let Some(answer) = answer else { return Some("the partition was not answered".to_owned()) };
    (answer.error_code != 0).then(|| {
        let why = answer.error_message.as_deref().unwrap_or("no reason");
        format!("error {}: {why}", answer.error_code)
    })
}
