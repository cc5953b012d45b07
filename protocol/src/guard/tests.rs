use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, *};
use kafka_protocol::protocol::{Decodable, Encodable, Message, VersionRange};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::sample::Sampler;
use super::*;
use crate::describe_share_group_offsets::DescribeShareGroupOffsetsRequest;
use crate::list_offsets::ListOffsetsRequest;
use crate::offset_commit::{OffsetCommitRequest, OffsetCommitTopic};
use crate::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic};
use crate::share_acknowledge::ShareAcknowledgeRequest;
use crate::share_fetch::ShareFetchRequest;
use crate::streams_group_describe::StreamsGroupDescribeRequest;
use crate::streams_group_heartbeat::{StreamsGroupHeartbeatRequest, Subtopology, TaskOffset, TopicInfo};
use crate::{ApiKey, api};

/// Decodes a body with the crate and encodes what came out: (bytes left over, encoded again).
type Codec = fn(Bytes, i16) -> anyhow::Result<(usize, Bytes)>;

fn recode<M: Decodable + Encodable>(mut body: Bytes, version: i16) -> anyhow::Result<(usize, Bytes)> {
    let message = M::decode(&mut body, version)?;
    let mut out = BytesMut::new();
    message.encode(&mut out, version)?;
    Ok((body.len(), out.freeze()))
}

macro_rules! codecs {
    ($($api:ident => $request:ident),* $(,)?) => {
        const CODECS: &[(ApiKey, VersionRange, Codec)] =
            &[$((ApiKey::$api, $request::VERSIONS, recode::<$request>)),*];
    };
}

crate::for_each_request!(codecs);

fn random(seed: u64) -> impl FnMut() -> u32 {
    let mut rng = StdRng::seed_from_u64(seed);
    move || rng.random()
}

/// Calls `test` with samples of every request at every version that both the shapes and the crate know.
fn for_every_request(samples: u64, mut test: impl FnMut(ApiKey, i16, Codec, Bytes)) {
    for (api, versions, codec) in CODECS {
        let shape = schema(*api).expect("shape");
        for version in versions.min..=versions.max {
            for seed in 0..samples {
                let seed = seed | u64::from(version as u16) << 16 | u64::from(*api as u16) << 32;
                let body = Sampler::new(random(seed), true).body(shape, version);
                test(*api, version, *codec, body.into());
            }
        }
    }
}

#[test]
fn every_served_api_has_a_shape() {
    for api in api::TABLE {
        assert!(schema(api.key).is_some(), "{:?}", api.key);
        assert!(CODECS.iter().any(|(key, ..)| *key == api.key), "{:?} is not tested", api.key);
    }
}

/// The shapes were written from Kafka's definitions and the crate's decoder was generated from them: that a decoder
/// consumes exactly what a shape describes, random lengths and all, shows that both mean the same.
#[test]
fn decoder_and_walker_agree_on_every_message() {
    let mut cases = 0;
    for_every_request(40, |api, version, codec, body| {
        let walked = check(api, version, &body);
        assert_eq!(walked, Ok(0), "{api:?} v{version} {body:02x?}");
        let (left, encoded) = codec(body.clone(), version).unwrap_or_else(|e| panic!("{api:?} v{version}: {e}"));
        assert_eq!(left, 0, "{api:?} v{version}: the decoder stopped early");
        let walked = check(api, version, &encoded);
        assert_eq!(walked, Ok(0), "{api:?} v{version}: encoded by the crate {encoded:02x?}");
        cases += 1;
    });
    assert!(cases > 5000, "{cases}");
}

#[test]
fn every_cut_is_refused_and_extra_bytes_are_counted() {
    for_every_request(4, |api, version, _, body| {
        for len in 0..body.len() {
            assert!(check(api, version, &body[..len]).is_err(), "{api:?} v{version} cut to {len} of {}", body.len());
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(check(api, version, &longer), Ok(1), "{api:?} v{version}");
    });
}

/// What the walker lets through, the crate decodes without a panic and within the promised memory, whatever was done
/// to the bytes.
#[test]
fn what_passes_is_safe_to_decode() {
    let mut random = random(7);
    let (mut passed, mut refused) = (0u32, 0u32);
    for_every_request(20, |api, version, codec, body| {
        let mut body = body.to_vec();
        for _ in 0..random() % 3 + 1 {
            if let Some(at) = (random() as usize).checked_rem(body.len()) {
                body[at] = if random().is_multiple_of(2) { random() as u8 } else { 0xff };
            }
        }
        match check(api, version, &body) {
            Ok(extra) => {
                // A decoder may still refuse what is not about lengths: UTF-8, a tag at a version without it.
                if let Ok((left, _)) = codec(body.into(), version) {
                    assert_eq!(left, extra, "{api:?} v{version}");
                    passed += 1;
                }
            }
            Err(_) => refused += 1,
        }
    });
    assert!(passed > 500 && refused > 500, "{passed} passed, {refused} refused");
}

#[test]
fn inflated_lengths_are_refused() {
    let refused = |api, version, body: &[u8]| check(api, version, body).expect_err("refused");
    // Metadata v1 with i32::MAX topics; v9 with 2^32 - 2 of them.
    let length = |length, left| GuardError::Length { field: "Topics", length, left };
    assert_eq!(refused(ApiKey::Metadata, 1, &i32::MAX.to_be_bytes()), length(i32::MAX.into(), 0));
    assert_eq!(refused(ApiKey::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]), length(0xffff_fffe, 2));
    assert_eq!(refused(ApiKey::Metadata, 1, &(-2i32).to_be_bytes()), length(-2, 0));
    assert_eq!(refused(ApiKey::Metadata, 0, &(-1i32).to_be_bytes()), GuardError::Null("Topics"));
    assert_eq!(refused(ApiKey::Metadata, 9, &[0xff; 8]), GuardError::Varint("Topics"));
    // 65 tagged fields; one of 64 KiB and a byte.
    assert_eq!(
        refused(ApiKey::DescribeCluster, 0, &[[0, 65].as_slice(), &[200, 0].repeat(65)].concat()),
        GuardError::Tags
    );
    let long = [&[0, 1, 100, 0x81, 0x80, 0x04][..], &vec![0; MAX_TAG_LEN + 1]].concat();
    assert_eq!(refused(ApiKey::DescribeCluster, 0, &long), GuardError::Tags);
}

#[test]
fn array_elements_are_counted_over_the_whole_request() {
    let names = |count: usize| [&(count as i32).to_be_bytes()[..], &[0, 1, b'g'].repeat(count)].concat();
    assert_eq!(check(ApiKey::DescribeGroups, 0, &names(MAX_ELEMENTS)), Ok(0));
    assert_eq!(check(ApiKey::DescribeGroups, 0, &names(MAX_ELEMENTS + 1)), Err(GuardError::Elements));
}

#[test]
fn unknown_tags_are_counted_over_the_whole_request() {
    // Metadata v9, every topic named "t" and with one unknown tag.
    let topics = |count: u32| {
        let mut body = vec![(count + 1) as u8 | 0x80, ((count + 1) >> 7) as u8];
        body.extend([2, b't', 1, 100, 0].repeat(count as usize));
        body.extend([0, 0, 0, 0]);
        body
    };
    assert_eq!(check(ApiKey::Metadata, 9, &topics(MAX_UNKNOWN_TAGS as u32)), Ok(0));
    assert_eq!(check(ApiKey::Metadata, 9, &topics(MAX_UNKNOWN_TAGS as u32 + 1)), Err(GuardError::Tags));
}

/// The bound of the module's documentation rests on the size of the crate's structures.
#[test]
fn no_array_element_is_larger_than_promised() {
    macro_rules! sizes {
        ($($element:path),* $(,)?) => { [$((stringify!($element), size_of::<$element>())),*] };
    }
    let sizes = sizes![
        messages::produce_request::TopicProduceData,
        messages::produce_request::PartitionProduceData,
        messages::fetch_request::FetchTopic,
        messages::fetch_request::FetchPartition,
        messages::fetch_request::ForgottenTopic,
        messages::list_offsets_request::ListOffsetsPartition,
        messages::metadata_request::MetadataRequestTopic,
        messages::offset_commit_request::OffsetCommitRequestTopic,
        messages::offset_commit_request::OffsetCommitRequestPartition,
        messages::offset_fetch_request::OffsetFetchRequestGroup,
        messages::offset_fetch_request::OffsetFetchRequestTopics,
        OffsetCommitTopic,
        OffsetFetchGroup,
        OffsetFetchTopic,
        Subtopology,
        TaskOffset,
        TopicInfo,
        messages::join_group_request::JoinGroupRequestProtocol,
        messages::leave_group_request::MemberIdentity,
        messages::sync_group_request::SyncGroupRequestAssignment,
        messages::create_topics_request::CreatableTopic,
        messages::create_topics_request::CreatableReplicaAssignment,
        messages::create_topics_request::CreatableTopicConfig,
        messages::delete_topics_request::DeleteTopicState,
        messages::create_partitions_request::CreatePartitionsTopic,
        messages::describe_configs_request::DescribeConfigsResource,
        messages::incremental_alter_configs_request::AlterConfigsResource,
        messages::incremental_alter_configs_request::AlterableConfig,
        messages::consumer_group_heartbeat_request::TopicPartitions,
        messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction,
        messages::share_fetch_request::FetchPartition,
        messages::create_acls_request::AclCreation,
        messages::alter_client_quotas_request::EntryData,
        messages::alter_user_scram_credentials_request::ScramCredentialUpsertion,
    ];
    let largest = sizes.iter().max_by_key(|size| size.1).expect("some");
    assert!(largest.1 <= MAX_ELEMENT_LEN, "{largest:?}");
    let unique: BTreeSet<_> = sizes.iter().map(|size| size.0).collect();
    assert_eq!(unique.len(), sizes.len());
}
