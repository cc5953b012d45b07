//! The Fetch response, written by hand so that record bytes are never copied (KIP-227 sessions, versions 4 to 18).

use bytes::BufMut;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::chunk::{Chunk, Chunks};
use crate::compact::put_uvarint;

/// A Fetch response.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    /// Top-level error code.
    pub error_code: i16,
    /// How long the client was throttled, ms.
    pub throttle_time_ms: i32,
    /// The fetch session, 0 for none.
    pub session_id: i32,
    /// Topics in the order asked for.
    pub topics: Vec<FetchTopic>,
}

/// One topic of a [`FetchResponse`].
#[derive(Clone, Debug, Default)]
pub struct FetchTopic {
    /// Name, sent up to version 12.
    pub name: StrBytes,
    /// Id, sent from version 13.
    pub id: Uuid,
    /// Partitions.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a [`FetchResponse`].
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// Partition index.
    pub index: i32,
    /// Error code.
    pub error_code: i16,
    /// End of the last visible record, -1 with an error.
    pub high_watermark: i64,
    /// End of the last decided record (transactions), -1 with an error.
    pub last_stable_offset: i64,
    /// First offset still there, -1 with an error.
    pub log_start_offset: i64,
    /// Where the client's epoch diverged from the log: (epoch, end offset). From version 12.
    pub diverging_epoch: Option<(i32, i64)>,
    /// Aborted transactions in the range: (producer id, first offset); `None` unless read_committed was asked for.
    pub aborted: Option<Vec<(i64, i64)>>,
    /// Record batches as they lie in the log.
    pub records: Vec<Chunk>,
}

impl FetchPartition {
    /// A partition that only carries an error.
    pub fn error(index: i32, error_code: i16) -> Self {
        FetchPartition {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            aborted: None,
            records: Vec::new(),
        }
    }

    /// Bytes of records.
    pub fn records_len(&self) -> usize {
        self.records.iter().map(Chunk::len).sum()
    }
}

impl FetchResponse {
    /// Appends the response at a version from 4 to 18.
    pub fn encode(&self, version: i16, out: &mut Chunks) {
        let flexible = version >= 12;
        out.buffer.put_i32(self.throttle_time_ms);
        if version >= 7 {
            out.buffer.put_i16(self.error_code);
            out.buffer.put_i32(self.session_id);
        }
        put_length(out, self.topics.len(), flexible);
        for topic in &self.topics {
            topic.encode(version, flexible, out);
        }
        put_tags(out, flexible);
    }
}

impl FetchTopic {
    fn encode(&self, version: i16, flexible: bool, out: &mut Chunks) {
        if version >= 13 {
            out.buffer.put_slice(self.id.as_bytes());
        } else {
            let name = self.name.as_bytes();
            if flexible {
                put_uvarint(&mut out.buffer, name.len() as u32 + 1);
            } else {
                out.buffer.put_i16(name.len() as i16);
            }
            out.buffer.put_slice(name);
        }
        put_length(out, self.partitions.len(), flexible);
        for partition in &self.partitions {
            partition.encode(version, flexible, out);
        }
        put_tags(out, flexible);
    }
}

impl FetchPartition {
    fn encode(&self, version: i16, flexible: bool, out: &mut Chunks) {
        out.buffer.put_i32(self.index);
        out.buffer.put_i16(self.error_code);
        out.buffer.put_i64(self.high_watermark);
        out.buffer.put_i64(self.last_stable_offset);
        if version >= 5 {
            out.buffer.put_i64(self.log_start_offset);
        }
        match &self.aborted {
            Some(aborted) => {
                put_length(out, aborted.len(), flexible);
                for (producer_id, first_offset) in aborted {
                    out.buffer.put_i64(*producer_id);
                    out.buffer.put_i64(*first_offset);
                    put_tags(out, flexible);
                }
            }
            None if flexible => out.buffer.put_u8(0),
            None => out.buffer.put_i32(-1),
        }
        if version >= 11 {
            out.buffer.put_i32(-1); // preferred read replica: there is only this one
        }
        let records_len = self.records_len();
        if flexible {
            put_uvarint(&mut out.buffer, records_len as u32 + 1);
        } else {
            out.buffer.put_i32(records_len as i32);
        }
        for chunk in &self.records {
            out.push(chunk.clone());
        }
        if flexible {
            self.put_tagged(out);
        }
    }

    fn put_tagged(&self, out: &mut Chunks) {
        let Some((epoch, end_offset)) = self.diverging_epoch else {
            out.buffer.put_u8(0);
            return;
        };
        out.buffer.put_slice(&[1, 0, 13]); // one field, tag 0, 4 + 8 + 1 bytes
        out.buffer.put_i32(epoch);
        out.buffer.put_i64(end_offset);
        out.buffer.put_u8(0);
    }
}

fn put_length(out: &mut Chunks, length: usize, flexible: bool) {
    if flexible {
        put_uvarint(&mut out.buffer, length as u32 + 1);
    } else {
        out.buffer.put_i32(length as i32);
    }
}

fn put_tags(out: &mut Chunks, flexible: bool) {
    if flexible {
        out.buffer.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::FetchResponse as Reference;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    fn sample() -> FetchResponse {
        let records = |text: &'static str| vec![Chunk::Bytes(Bytes::from_static(text.as_bytes()))];
        let plain = FetchPartition { records: records("batches"), high_watermark: 9, ..FetchPartition::error(0, 0) };
        let aborted = FetchPartition {
            aborted: Some(vec![(7, 3), (8, 4)]),
            diverging_epoch: Some((2, 5)),
            ..FetchPartition::error(1, 3)
        };
        FetchResponse {
            error_code: 0,
            throttle_time_ms: 5,
            session_id: 77,
            topics: vec![FetchTopic {
                name: StrBytes::from_static_str("orders"),
                id: Uuid::from_u128(42),
                partitions: vec![plain, aborted],
            }],
        }
    }

    /// The crate's generated decoder is the reference for every version.
    #[test]
    fn every_version_decodes_to_the_same_fields() {
        for version in 4..=18 {
            let mut out = Chunks::default();
            sample().encode(version, &mut out);
            let expected_len = out.len();
            let mut bytes = bytes::BytesMut::new();
            for chunk in out.finish() {
                bytes.extend_from_slice(&chunk.read().expect("memory"));
            }
            assert_eq!(bytes.len(), expected_len);
            let mut bytes = bytes.freeze();
            let decoded = Reference::decode(&mut bytes, version).expect("decodes");
            assert!(bytes.is_empty(), "version {version} has trailing bytes");
            assert_eq!(decoded.throttle_time_ms, 5);
            let topic = &decoded.responses[0];
            if version >= 13 {
                assert_eq!(topic.topic_id, Uuid::from_u128(42));
            } else {
                assert_eq!(topic.topic.as_str(), "orders");
            }
            assert_eq!(topic.partitions[0].records.as_deref(), Some(&b"batches"[..]));
            assert_eq!(topic.partitions[0].high_watermark, 9);
            let second = &topic.partitions[1];
            assert_eq!(second.error_code, 3);
            assert_eq!(second.aborted_transactions.as_ref().map(Vec::len), Some(2));
            if version >= 12 {
                assert_eq!(second.diverging_epoch.end_offset, 5);
            }
        }
    }
}
