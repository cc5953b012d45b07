//! The consumer protocol that classic members carry inside JoinGroup and SyncGroup: what they subscribe to and what
//! they are assigned (Kafka's `ConsumerProtocol`). Parsed here because the bytes come from clients: the codec's
//! arrays trust their length.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use krocket_protocol::ErrorCode;

/// Topics with partition indexes.
pub(super) type TopicPartitions = Vec<(String, Vec<i32>)>;

/// What a classic consumer subscribes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: Vec<String>,
    pub(super) owned: TopicPartitions,
    pub(super) rack: Option<String>,
}

/// The bytes are not the consumer protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<Malformed> for ErrorCode {
    fn from(_: Malformed) -> Self {
        ErrorCode::InconsistentGroupProtocol
    }
}

/// The version a member speaks: answers to it are written at the same.
pub(super) fn version(mut metadata: &[u8]) -> Result<i16, Malformed> {
    let version = metadata.try_get_i16().map_err(|_| Malformed)?;
    if version < 0 { Err(Malformed) } else { Ok(version) }
}

pub(super) fn subscription(metadata: &[u8]) -> Result<Subscription, Malformed> {
    let version = version(metadata)?;
    let mut input = metadata.get(2..).ok_or(Malformed)?;
    let mut subscription = Subscription { topics: array(&mut input, string)?, ..Subscription::default() };
    nullable_bytes(&mut input)?;
    // Newer fields come after; some clients leave them out for all that their version says.
    if version >= 1 && input.has_remaining() {
        subscription.owned = array(&mut input, topic_partitions)?;
    }
    if version >= 2 && input.has_remaining() {
        input.try_get_i32().map_err(|_| Malformed)?;
    }
    if version >= 3 && input.has_remaining() {
        subscription.rack = nullable_string(&mut input)?;
    }
    Ok(subscription)
}

/// The partitions assigned, and whether a custom assignor put data of its own beside them.
pub(super) fn assignment(bytes: &[u8]) -> Result<(TopicPartitions, bool), Malformed> {
    version(bytes)?;
    let mut input = bytes.get(2..).ok_or(Malformed)?;
    let partitions = array(&mut input, topic_partitions)?;
    let user_data = nullable_bytes(&mut input)?;
    Ok((partitions, user_data > 0))
}

pub(super) fn encode_assignment(version: i16, partitions: &TopicPartitions) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version.min(3));
    out.put_i32(partitions.len() as i32);
    for (topic, indexes) in partitions {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(indexes.len() as i32);
        indexes.iter().for_each(|index| out.put_i32(*index));
    }
    out.put_i32(-1);
    out.freeze()
}

fn array<T>(input: &mut &[u8], item: fn(&mut &[u8]) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let count = input.try_get_i32().map_err(|_| Malformed)?;
    // Items are at least two bytes: a count beyond that is a lie, found out before anything is allocated.
    if count > 0 && count as usize > input.len() {
        return Err(Malformed);
    }
    (0..count).map(|_| item(input)).collect()
}

fn topic_partitions(input: &mut &[u8]) -> Result<(String, Vec<i32>), Malformed> {
    let topic = string(input)?;
    Ok((topic, array(input, |input| input.try_get_i32().map_err(|_| Malformed))?))
}

fn string(input: &mut &[u8]) -> Result<String, Malformed> {
    nullable_string(input)?.ok_or(Malformed)
}

fn nullable_string(input: &mut &[u8]) -> Result<Option<String>, Malformed> {
    let length = input.try_get_i16().map_err(|_| Malformed)?;
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let (value, rest) = input.split_at_checked(length).ok_or(Malformed)?;
    *input = rest;
    String::from_utf8(value.to_vec()).map(Some).map_err(|_| Malformed)
}

/// Skips the bytes and tells how many there were.
fn nullable_bytes(input: &mut &[u8]) -> Result<usize, Malformed> {
    let length = input.try_get_i32().map_err(|_| Malformed)?;
    let length = usize::try_from(length).unwrap_or(0);
    *input = input.get(length..).ok_or(Malformed)?;
    Ok(length)
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
    use kafka_protocol::messages::consumer_protocol_subscription::{ConsumerProtocolSubscription, TopicPartition};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use krocket_protocol::StrBytes;
    use proptest::prelude::*;

    use super::*;

    /// What a client of this version would send.
    pub(in crate::group) fn encode(version: i16, topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
        let text = |s: &str| StrBytes::from_string(s.to_owned());
        let mut out = BytesMut::new();
        out.put_i16(version);
        let owned = owned
            .iter()
            .map(|(topic, indexes)| {
                TopicPartition::default().with_topic(text(topic).into()).with_partitions(indexes.to_vec())
            })
            .collect();
        let message = ConsumerProtocolSubscription::default().with_topics(topics.iter().map(|t| text(t)).collect());
        let message = if version >= 1 { message.with_owned_partitions(owned) } else { message };
        message.encode(&mut out, version).expect("encodes");
        out.freeze()
    }

    #[test]
    fn every_version_of_a_subscription_is_read() {
        for version in 0..=3 {
            let bytes = encode(version, &["a", "b"], &[("a", &[0, 2])]);
            let subscription = subscription(&bytes).expect("well formed");
            assert_eq!(subscription.topics, ["a", "b"]);
            assert_eq!(subscription.owned.len(), usize::from(version >= 1), "version {version}");
        }
    }

    #[test]
    fn an_assignment_is_written_as_the_codec_reads_it() {
        let partitions = vec![("a".to_owned(), vec![0, 1]), ("b".to_owned(), vec![7])];
        let mut bytes = encode_assignment(1, &partitions);
        assert_eq!(assignment(&bytes), Ok((partitions, false)));
        assert_eq!(bytes.get_i16(), 1);
        let decoded = ConsumerProtocolAssignment::decode(&mut bytes, 1).expect("decodes");
        assert_eq!(decoded.assigned_partitions[1].partitions, [7]);
        assert!(!bytes.has_remaining());
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_it_is_allocated() {
        assert_eq!(subscription(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1]), Err(Malformed));
        assert_eq!(subscription(&[0]), Err(Malformed));
        assert_eq!(subscription(&[0xff, 0xff, 0, 0, 0, 0]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = subscription(&bytes);
            let _ = assignment(&bytes);
        }
    }
}
