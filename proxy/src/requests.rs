//! The request log: a line for some requests, chosen by chance or because they took long.
//!
//! Nothing of a request's or an answer's body is ever written, so no password or token can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use krocket_protocol::chunk::Chunks;
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};
use krocket_stack::{Connection, Head};

use crate::quota::throttled_since;

/// 2^64 divided by the golden ratio: multiples of it, modulo 2^64, lie evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const NEVER: u64 = u64::MAX;

/// Which requests are logged. It can be changed while requests are served.
#[derive(Debug)]
pub struct RequestLog {
    /// A request is taken when its place is below; 0 takes none.
    sample: AtomicU64,
    slow_micros: AtomicU64,
    place: AtomicU64,
}

impl Default for RequestLog {
    fn default() -> Self {
        RequestLog { sample: AtomicU64::new(0), slow_micros: AtomicU64::new(NEVER), place: AtomicU64::new(0) }
    }
}

impl RequestLog {
    /// From now on `sample` of all requests, from 0 to 1, and every one that takes at least `slow`.
    pub fn set(&self, sample: f64, slow: Option<Duration>) {
        // Saturates: 1 takes all but one place in 2^64.
        self.sample.store((sample * 2f64.powi(64)) as u64, Ordering::Relaxed);
        let micros = slow.map_or(NEVER, |slow| u64::try_from(slow.as_micros()).unwrap_or(NEVER));
        self.slow_micros.store(micros, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.sample.load(Ordering::Relaxed) > 0 || self.slow_micros.load(Ordering::Relaxed) != NEVER
    }

    fn takes_by_chance(&self) -> bool {
        let sample = self.sample.load(Ordering::Relaxed);
        sample > 0 && self.place.fetch_add(GOLDEN, Ordering::Relaxed) < sample
    }

    fn is_slow(&self, api: ApiKey, time: Duration) -> bool {
        let micros = self.slow_micros.load(Ordering::Relaxed);
        micros != NEVER && !waits(api) && time.as_micros() >= u128::from(micros)
    }

    /// Remembers who asked, where somebody wants to know.
    pub(crate) fn begin(self: &Arc<Self>, head: &Head, bytes_in: usize) -> Option<Asked> {
        self.is_on().then(|| Asked {
            log: self.clone(),
            api: head.api,
            version: head.version,
            client_id: head.client_id.clone(),
            connection: head.connection.clone(),
            bytes_in,
        })
    }
}

/// They take long because that is what they are asked for: to wait for records, or for other members.
fn waits(api: ApiKey) -> bool {
    matches!(api, ApiKey::Fetch | ApiKey::ShareFetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// A request that may be logged when it is answered.
pub(crate) struct Asked {
    log: Arc<RequestLog>,
    api: ApiKey,
    version: i16,
    client_id: Option<StrBytes>,
    connection: Arc<Connection>,
    bytes_in: usize,
}

impl Asked {
    /// Writes the line if there is to be one. `body` is the encoded answer, if there is one.
    pub(crate) fn answered(self, body: Option<&Chunks>, time: Duration, throttle: Option<Duration>) {
        let slow = self.log.is_slow(self.api, time);
        if !slow && !self.log.takes_by_chance() {
            return;
        }
        let code = body.and_then(|body| error_code(self.api, self.version, body)).unwrap_or(0);
        tracing::info!(
            target: "krocket_proxy::requests",
            api = ?self.api,
            version = self.version,
            client_id = self.client_id.as_deref().unwrap_or_default(),
            principal = self.connection.principal().to_string(),
            listener = self.connection.listener,
            peer = %self.connection.peer,
            bytes_in = self.bytes_in,
            bytes_out = body.map_or(0, Chunks::len),
            micros = time.as_micros() as u64,
            throttle_ms = throttle.unwrap_or_default().as_millis() as u64,
            error_code = code,
            error = ErrorCode::try_from_code(code).map(|code| format!("{code:?}")).unwrap_or_default(),
            slow,
            "request"
        );
    }
}

/// The code that is the whole answer's, where the protocol has one.
fn error_code(api: ApiKey, version: i16, body: &Chunks) -> Option<i16> {
    let all_in_buffer = body.len() == body.buffer.len();
    let at = error_place(api, version).filter(|_| all_in_buffer)?;
    body.buffer.get(at..)?.first_chunk().map(|bytes| i16::from_be_bytes(*bytes))
}

/// The code's place in the bytes of the body.
fn error_place(api: ApiKey, version: i16) -> Option<usize> {
    use ApiKey::*;
    match api {
        ApiVersions | SaslHandshake | SaslAuthenticate | OffsetDelete | DescribeQuorum => Some(0),
        AlterPartitionReassignments if version >= 1 => Some(5),
        FindCoordinator if version > 3 => None,
        Fetch if version < 7 => None,
        AddPartitionsToTxn if version < 4 => None,
        DescribeLogDirs if version < 3 => None,
        ElectLeaders if version < 1 => None,
        JoinGroup
        | FindCoordinator
        | Heartbeat
        | LeaveGroup
        | SyncGroup
        | ListGroups
        | Fetch
        | InitProducerId
        | AddPartitionsToTxn
        | AddOffsetsToTxn
        | EndTxn
        | DescribeAcls
        | DescribeLogDirs
        | ElectLeaders
        | AlterPartitionReassignments
        | ListPartitionReassignments
        | DescribeClientQuotas
        | DescribeUserScramCredentials
        | AlterShareGroupOffsets
        | DeleteShareGroupOffsets
        | DescribeCluster
        | ListTransactions
        | ConsumerGroupHeartbeat
        | ListConfigResources
        | ShareGroupHeartbeat
        | ShareFetch
        | ShareAcknowledge
        | StreamsGroupHeartbeat => Some(if version >= throttled_since(api) { 4 } else { 0 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::*;
    use krocket_protocol::fetch::FetchResponse;
    use krocket_protocol::{ApiKey, api};
    use krocket_stack::{Body, Message, Response};

    use super::*;

    const CODE: i16 = 0x1234;

    fn found(api: ApiKey, version: i16, message: impl Message) -> Option<i16> {
        let Response::Body(body) = Response::new(message) else { panic!("a body") };
        error_code(api, version, &body.encode(version).expect("encodes"))
    }

    macro_rules! check {
        ($($api:ident => $response:ident from $since:literal to $until:literal),+ $(,)?) => {$({
            let row = api::served(ApiKey::$api).expect("served");
            let known = <$response as kafka_protocol::protocol::Message>::VERSIONS.max;
            for version in row.min..=row.max.min(known) {
                let message = match ($since..=$until).contains(&version) {
                    true => $response::default().with_error_code(CODE),
                    false => $response::default(),
                };
                let expected = ($since..=$until).contains(&version).then_some(CODE);
                assert_eq!(found(ApiKey::$api, version, message), expected, "{} version {version}", stringify!($api));
            }
        })+};
    }

    #[test]
    fn an_answers_own_code_is_found_in_every_version() {
        check!(
            ApiVersions => ApiVersionsResponse from 0 to 99, SaslHandshake => SaslHandshakeResponse from 0 to 99,
            SaslAuthenticate => SaslAuthenticateResponse from 0 to 99, OffsetDelete => OffsetDeleteResponse from 0 to 99,
            DescribeQuorum => DescribeQuorumResponse from 0 to 99,
            AlterPartitionReassignments => AlterPartitionReassignmentsResponse from 0 to 99,
            FindCoordinator => FindCoordinatorResponse from 0 to 3, JoinGroup => JoinGroupResponse from 0 to 99,
            Heartbeat => HeartbeatResponse from 0 to 99, LeaveGroup => LeaveGroupResponse from 0 to 99,
            SyncGroup => SyncGroupResponse from 0 to 99, ListGroups => ListGroupsResponse from 0 to 99,
            InitProducerId => InitProducerIdResponse from 0 to 99,
            AddPartitionsToTxn => AddPartitionsToTxnResponse from 4 to 99,
            AddOffsetsToTxn => AddOffsetsToTxnResponse from 0 to 99, EndTxn => EndTxnResponse from 0 to 99,
            DescribeAcls => DescribeAclsResponse from 0 to 99, DescribeLogDirs => DescribeLogDirsResponse from 3 to 99,
            ElectLeaders => ElectLeadersResponse from 1 to 99,
            ListPartitionReassignments => ListPartitionReassignmentsResponse from 0 to 99,
            DescribeClientQuotas => DescribeClientQuotasResponse from 0 to 99,
            DescribeUserScramCredentials => DescribeUserScramCredentialsResponse from 0 to 99,
            AlterShareGroupOffsets => AlterShareGroupOffsetsResponse from 0 to 99,
            DeleteShareGroupOffsets => DeleteShareGroupOffsetsResponse from 0 to 99,
            DescribeCluster => DescribeClusterResponse from 0 to 99,
            ListTransactions => ListTransactionsResponse from 0 to 99,
            ConsumerGroupHeartbeat => ConsumerGroupHeartbeatResponse from 0 to 99,
            ListConfigResources => ListConfigResourcesResponse from 0 to 99,
            ShareGroupHeartbeat => ShareGroupHeartbeatResponse from 0 to 99,
            ShareAcknowledge => ShareAcknowledgeResponse from 0 to 99,
        );
        for version in 4..=18 {
            let response = FetchResponse { error_code: CODE, ..FetchResponse::default() };
            let body = Body::Fetch(response).encode(version).expect("encodes");
            assert_eq!(error_code(ApiKey::Fetch, version, &body), (version >= 7).then_some(CODE), "version {version}");
        }
        assert_eq!(found(ApiKey::Metadata, 12, MetadataResponse::default()), None);
    }

    #[test]
    fn a_share_of_all_requests_is_taken_and_slow_ones_are_unless_they_wait() {
        let log = RequestLog::default();
        assert!(!log.is_on() && !log.takes_by_chance() && !log.is_slow(ApiKey::Produce, Duration::MAX));
        for (sample, least, most) in [(0.01, 99, 101), (0.5, 4999, 5001), (1.0, 10_000, 10_000)] {
            log.set(sample, None);
            let taken = (0..10_000).filter(|_| log.takes_by_chance()).count();
            assert!(log.is_on() && (least..=most).contains(&taken), "{taken} of 10000 at {sample}");
        }
        log.set(0.0, Some(Duration::from_millis(200)));
        assert!(log.is_on() && !log.takes_by_chance());
        let cases = [(ApiKey::Produce, 200, true), (ApiKey::Produce, 199, false), (ApiKey::Fetch, 500, false)];
        for (api, millis, slow) in cases {
            assert_eq!(log.is_slow(api, Duration::from_millis(millis)), slow, "{api:?} {millis} ms");
        }
        log.set(0.0, None);
        assert!(!log.is_on());
    }
}
