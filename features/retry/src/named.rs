//! What nacks by id name: messages of other topics, which come back as copies.

use krocket_config::rules::Prefixes;
use krocket_features::headers::{Name, ORIGIN_MESSAGE_ID, mentioned};
use krocket_features::produce::{records, text};
use krocket_features::{MessageId, escape};
use krocket_stack::ProducePartition;

/// Topics of the messages that a batch for `topic` names in [`ORIGIN_MESSAGE_ID`]; none where the topic is no retry topic
/// or the batch is malformed, which is refused further in.
pub fn named_topics(prefixes: &Prefixes, topic: &str, partition: &mut ProducePartition) -> Vec<String> {
    if escape::group(&prefixes.retry, topic).is_none() || !mentioned(partition).any(&[Name::ORIGIN_MESSAGE_ID]) {
        return Vec::new();
    }
    let Some(records) = records(partition) else { return Vec::new() };
    let named = |record: krocket_protocol::records::Record<'_>| -> Option<String> {
        let id = text(&record, 0, ORIGIN_MESSAGE_ID).ok()??.parse::<MessageId>().ok()?;
        Some(id.topic)
    };
    (&records).into_iter().map_while(Result::ok).filter_map(named).collect()
}
