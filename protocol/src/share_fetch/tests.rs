use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch, FetchPartition};
use kafka_protocol::messages::{GroupId, ShareFetchRequest as CrateRequest};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("encodes");
    assert_eq!(out.len(), message.compute_size(version).expect("a size"));
    out.freeze()
}

fn text() -> impl Strategy<Value = Option<StrBytes>> {
    prop::option::of("[a-z]{0,200}".prop_map(StrBytes::from_string))
}

fn topics() -> impl Strategy<Value = Vec<FetchTopic>> {
    let batch = (any::<i64>(), any::<i64>(), vec(0i8..5, 0..4)).prop_map(|(first, last, types)| {
        AcknowledgementBatch::default().with_first_offset(first).with_last_offset(last).with_acknowledge_types(types)
    });
    let partition = (any::<i32>(), vec(batch, 0..3)).prop_map(|(index, batches)| {
        FetchPartition::default().with_partition_index(index).with_acknowledgement_batches(batches)
    });
    let topic = (any::<u128>(), vec(partition, 0..3)).prop_map(|(id, partitions)| {
        FetchTopic::default().with_topic_id(Uuid::from_u128(id)).with_partitions(partitions)
    });
    vec(topic, 0..3)
}

fn forgotten() -> impl Strategy<Value = Vec<ForgottenTopic>> {
    let topic = (any::<u128>(), vec(any::<i32>(), 0..4)).prop_map(|(id, partitions)| {
        ForgottenTopic::default().with_topic_id(Uuid::from_u128(id)).with_partitions(partitions)
    });
    vec(topic, 0..3)
}

prop_compose! {
    fn request()(
        group_id in text(), member_id in text(), numbers in any::<[i32; 6]>(), share_acquire_mode in 0i8..2,
        is_renew_ack in any::<bool>(), topics in topics(), forgotten_topics_data in forgotten(),
    ) -> ShareFetchRequest {
        let [share_session_epoch, max_wait_ms, min_bytes, max_bytes, max_records, batch_size] = numbers;
        ShareFetchRequest {
            group_id, member_id, share_session_epoch, max_wait_ms, min_bytes, max_bytes, max_records, batch_size,
            share_acquire_mode, is_renew_ack, topics, forgotten_topics_data,
        }
    }
}

proptest! {
    #[test]
    fn a_request_round_trips_and_its_version_1_is_the_crates(request in request()) {
        let mut bytes = encoded(&request, 2);
        prop_assert_eq!(&ShareFetchRequest::decode(&mut bytes, 2).expect("decodes"), &request);
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(request.encode(&mut BytesMut::new(), 1).is_err(), request.is_renew_ack);

        let plain = ShareFetchRequest { is_renew_ack: false, share_acquire_mode: 0, ..request };
        let reference = CrateRequest::default()
            .with_group_id(plain.group_id.clone().map(GroupId))
            .with_member_id(plain.member_id.clone())
            .with_share_session_epoch(plain.share_session_epoch)
            .with_max_wait_ms(plain.max_wait_ms)
            .with_min_bytes(plain.min_bytes)
            .with_max_bytes(plain.max_bytes)
            .with_max_records(plain.max_records)
            .with_batch_size(plain.batch_size)
            .with_topics(plain.topics.clone())
            .with_forgotten_topics_data(plain.forgotten_topics_data.clone());
        let mut bytes = encoded(&plain, 1);
        prop_assert_eq!(&bytes, &encoded(&reference, 1));
        prop_assert_eq!(ShareFetchRequest::decode(&mut bytes, 1).expect("decodes"), plain);
    }

    /// The crate's generated decoder is the reference.
    #[test]
    fn a_response_decodes_to_the_same_fields(
        codes in any::<[i16; 3]>(), messages in (text(), text(), text()), timeout in any::<i32>(),
        acquired in vec((any::<i64>(), any::<i64>(), any::<i16>()), 0..4), records in vec(any::<u8>(), 0..300),
    ) {
        let acquired: Vec<_> = acquired
            .into_iter()
            .map(|(first_offset, last_offset, delivery_count)| AcquiredRecords { first_offset, last_offset, delivery_count })
            .collect();
        let partition = ShareFetchPartition {
            index: 7,
            error_code: codes[1],
            error_message: messages.1,
            acknowledge_error_code: codes[2],
            acknowledge_error_message: messages.2,
            records: vec![Chunk::Bytes(records.clone().into()), Chunk::Bytes(Bytes::from_static(b"more"))],
            acquired,
        };
        let response = ShareFetchResponse {
            throttle_time_ms: 5,
            error_code: codes[0],
            error_message: messages.0,
            acquisition_lock_timeout_ms: timeout,
            topics: vec![ShareFetchTopic { id: Uuid::from_u128(42), partitions: vec![partition.clone(), partition] }],
        };
        let mut out = Chunks::default();
        response.encode(&mut out);
        let mut bytes = BytesMut::new();
        for chunk in out.finish() {
            bytes.extend_from_slice(&chunk.read().expect("memory"));
        }
        let mut bytes = bytes.freeze();
        let decoded = DecodedShareFetchResponse::decode(&mut bytes, 2).expect("decodes").0;
        prop_assert!(bytes.is_empty());
        prop_assert_eq!((decoded.throttle_time_ms, decoded.error_code), (5, codes[0]));
        prop_assert_eq!(decoded.acquisition_lock_timeout_ms, timeout);
        prop_assert_eq!(&decoded.error_message, &response.error_message);
        prop_assert_eq!(decoded.responses[0].topic_id, Uuid::from_u128(42));
        prop_assert_eq!(decoded.responses[0].partitions.len(), 2);
        let (found, sent) = (&decoded.responses[0].partitions[1], &response.topics[0].partitions[1]);
        prop_assert_eq!((found.partition_index, found.error_code), (7, codes[1]));
        prop_assert_eq!(found.acknowledge_error_code, codes[2]);
        prop_assert_eq!(&found.error_message, &sent.error_message);
        prop_assert_eq!(&found.acknowledge_error_message, &sent.acknowledge_error_message);
        prop_assert_eq!(found.records.as_deref(), Some(&[&records[..], b"more"].concat()[..]));
        let back: Vec<_> = found
            .acquired_records
            .iter()
            .map(|one| AcquiredRecords {
                first_offset: one.first_offset, last_offset: one.last_offset, delivery_count: one.delivery_count,
            })
            .collect();
        prop_assert_eq!(&back, &sent.acquired);
    }
}

#[test]
fn versions_0_and_3_are_refused() {
    for version in [0, 3] {
        assert!(ShareFetchRequest::default().encode(&mut BytesMut::new(), version).is_err());
        assert!(ShareFetchRequest::decode(&mut Bytes::new(), version).is_err());
    }
}

/// Bytes made from Kafka's definition by hand.
#[test]
fn fields_are_where_kafka_has_them() {
    let request = ShareFetchRequest {
        group_id: Some("g".into()),
        member_id: None,
        share_session_epoch: -1,
        max_records: 500,
        batch_size: 100,
        share_acquire_mode: 1,
        is_renew_ack: true,
        ..ShareFetchRequest::default()
    };
    let expected = [
        &[2, b'g', 0, 255, 255, 255, 255][..],
        &[0; 12],
        &[0, 0, 1, 244, 0, 0, 0, 100],
        &[1, 1], // mode, renewals
        &[1, 1, 0],
    ];
    assert_eq!(encoded(&request, 2)[..], expected.concat());
}
