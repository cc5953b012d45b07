//! ApiVersions (KIP-35, KIP-511): what is served, from the API table.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use krocket_protocol::{ApiKey, ErrorCode, api};
use krocket_stack::{Body, Error, Head, Response};

/// Lowest Produce version in the list. Versions below the table's are not served, but librdkafka takes a broker that
/// doesn't list them for one without the v2 record format (KAFKA-18659).
const PRODUCE_LISTED_MIN: i16 = 0;

/// Answers the request. The response always has header version 0, whatever its own version.
pub(crate) fn handle(head: &Head, body: Body) -> Result<Response, Error> {
    let request: ApiVersionsRequest = body.into_message(head.version)?;
    if head.version >= 3 {
        let (name, version) = (request.client_software_name, request.client_software_version);
        if !(is_software_name(&name) && is_software_name(&version)) {
            return Ok(Response::new(
                ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code()),
            ));
        }
        // A connection that says it twice keeps its first word.
        let _ = head.connection.software.set((name.to_string(), version.to_string()));
    }
    Ok(Response::new(list()))
}

/// The answer to a version that is not served: to be sent as version 0; clients ask again with one from the list.
pub(crate) fn unsupported() -> ApiVersionsResponse {
    list().with_error_code(ErrorCode::UnsupportedVersion.code())
}

fn list() -> ApiVersionsResponse {
    let keys = api::TABLE.iter().map(|api| {
        let min = if api.key == ApiKey::Produce { PRODUCE_LISTED_MIN } else { api.min };
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(min).with_max_version(api.max)
    });
    // No features: none of Kafka's are finalized here, and an unknown epoch says so.
    ApiVersionsResponse::default().with_api_keys(keys.collect()).with_finalized_features_epoch(-1)
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
    fn produce_is_listed_from_version_0() {
        let produce = &list().api_keys[0];
        assert_eq!((produce.api_key, produce.min_version), (0, 0));
        assert!(api::served(ApiKey::Produce).expect("in the table").min > 0);
    }
}
