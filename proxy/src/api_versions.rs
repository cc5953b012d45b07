//! ApiVersions (KIP-35, KIP-511): what is served, from the API table.

use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use krocket_protocol::{ApiKey, ErrorCode, StrBytes, api};
use krocket_stack::{Error, Request, Response};

/// Lowest Produce version in the list. Versions below the table's are not served, but librdkafka takes a broker that
/// doesn't list them for one without the v2 record format (KAFKA-18659).
const PRODUCE_LISTED_MIN: i16 = 0;

/// Finalized features (KIP-584): name, lowest and highest level, level in force. `group.version` 1 is KIP-848; consoles
/// read the version of Kafka off `metadata.version`, and 27 is 4.1-IV1, the protocol that is spoken here.
const FEATURES: &[(&str, i16, i16, i16)] = &[
    ("group.version", 0, 1, 1),
    ("metadata.version", 7, 27, 27),
    // 1 is KIP-932.
    ("share.version", 0, 1, 1),
    // 2 is KIP-890.
    ("transaction.version", 0, 2, 2),
    // 1 is KIP-1071.
    ("streams.version", 0, 1, 1),
];

/// Answers the request. The response always has header version 0, whatever its own version.
pub(crate) fn handle(request: Request) -> Result<Response, Error> {
    let (head, request) = request.into_message::<ApiVersionsRequest>()?;
    if head.version >= 3 {
        let (name, version) = (request.client_software_name, request.client_software_version);
        if !(is_software_name(&name) && is_software_name(&version)) {
            return Ok(Response::new(ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code())));
        }
        // A connection that says it twice keeps its first word.
        let _ = head.connection.software.set((name.to_string(), version.to_string()));
    }
    Ok(Response::new(list(head.version)))
}

/// The answer to a version that is not served: to be sent as version 0; clients ask again with one from the list.
pub(crate) fn unsupported() -> ApiVersionsResponse {
    list(0).with_error_code(ErrorCode::UnsupportedVersion.code())
}

fn list(version: i16) -> ApiVersionsResponse {
    let keys = api::TABLE.iter().map(|api| {
        let min = if api.key == ApiKey::Produce { PRODUCE_LISTED_MIN } else { api.min };
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(min).with_max_version(api.max)
    });
    let response = ApiVersionsResponse::default().with_api_keys(keys.collect());
    if version < 3 {
        return response;
    }
    // Java clients before 4.0 fail at a lowest level of 0, so it is left out below version 4 (KAFKA-17011).
    let supported = FEATURES.iter().filter(|(_, min, _, _)| version >= 4 || *min > 0).map(|&(name, min, max, _)| {
        let name = StrBytes::from_static_str(name);
        SupportedFeatureKey::default().with_name(name).with_min_version(min).with_max_version(max)
    });
    let finalized = FEATURES.iter().map(|&(name, _, _, level)| {
        let name = StrBytes::from_static_str(name);
        FinalizedFeatureKey::default().with_name(name).with_min_version_level(level).with_max_version_level(level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features_epoch(1)
        .with_finalized_features(finalized.collect())
}

/// Kafka's rule (ApiVersionsRequest.isValid).
fn is_software_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.chars().all(inner) && outer(name.chars().next()) && outer(name.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_rule() {
        for name in ["librdkafka", "apache-kafka-java", "4.1.0", "a"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", "a_b", "é"] {
            assert!(!is_software_name(name), "{name:?}");
        }
    }

    #[test]
    fn every_version_can_be_encoded_and_features_start_with_version_3() {
        use kafka_protocol::protocol::{Decodable, Encodable};
        for version in 0..=4 {
            let mut bytes = bytes::BytesMut::new();
            list(version).encode(&mut bytes, version).expect("encodes");
            let back = ApiVersionsResponse::decode(&mut bytes.freeze(), version).expect("decodes");
            assert_eq!(back.api_keys.len(), api::TABLE.len());
            assert_eq!(back.finalized_features.len(), if version >= 3 { FEATURES.len() } else { 0 });
            let zero_minimum = back.supported_features.iter().any(|feature| feature.min_version == 0);
            assert_eq!(zero_minimum, version >= 4);
        }
    }

    #[test]
    fn produce_is_listed_from_version_0() {
        let produce = &list(0).api_keys[0];
        assert_eq!((produce.api_key, produce.min_version), (0, 0));
        assert!(api::served(ApiKey::Produce).expect("in the table").min > 0);
    }
}
