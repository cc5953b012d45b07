//! Incremental fetch sessions (KIP-227): the broker remembers what a client fetches, both sides send changes only.
//!
//! The rules are those of Kafka's `FetchSession` and `FetchSessionCacheShard`: eviction of sessions idle for two minutes,
//! then of older and smaller ones; a partition that delivered moves to the end of the order, so that no partition starves.

use krocket_protocol::fetch::{FetchPartition, FetchResponse, FetchTopic};
use krocket_protocol::{ErrorCode, StrBytes};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Sessions kept (max.incremental.fetch.session.cache.slots).
const SLOTS: usize = 1000;
/// Idle time after which a session may be replaced, ms (Kafka's MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS).
const EVICTION_MS: i64 = 120_000;
/// Ends a session, or none is wanted.
const FINAL_EPOCH: i32 = -1;
/// Begins a session.
const INITIAL_EPOCH: i32 = 0;

/// A topic as a Fetch request names it: by name up to version 12, by id from 13.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TopicKey {
    pub(crate) name: StrBytes,
    pub(crate) id: Uuid,
}

/// What a client asks of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// All sessions of the broker.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: Mutex<HashMap<i32, Session>>,
    slots: usize,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    created_ms: i64,
    used_ms: i64,
    next_place: u64,
    places: HashMap<(TopicKey, i32), u64>,
    partitions: BTreeMap<u64, Cached>,
}

#[derive(Debug)]
struct Cached {
    asked: Asked,
    high_watermark: i64,
    log_start_offset: i64,
}

/// What to do with one request.
#[derive(Debug)]
pub(crate) enum Context {
    /// Answer this error only.
    Error(ErrorCode),
    /// Fetch these and remember nothing.
    Sessionless(Vec<Asked>),
    /// Fetch these and begin a session.
    Full(Vec<Asked>),
    /// Fetch these and answer what changed.
    Incremental {
        /// The session.
        id: i32,
        /// Its epoch after this request.
        epoch: i32,
        /// All of its partitions in order.
        asked: Vec<Asked>,
    },
}

impl Context {
    /// What to fetch.
    pub(crate) fn asked(&self) -> &[Asked] {
        match self {
            Context::Error(_) => &[],
            Context::Sessionless(asked) | Context::Full(asked) | Context::Incremental { asked, .. } => asked,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions { by_id: Mutex::default(), slots: SLOTS }
    }
}

impl Sessions {
    /// Reads a request's session fields and, in an incremental one, applies its changes.
    pub(crate) fn begin(
        &self,
        (id, epoch): (i32, i32),
        uses_topic_ids: bool,
        asked: Vec<Asked>,
        forgotten: &[(TopicKey, i32)],
        now_ms: i64,
    ) -> Context {
        let mut sessions = self.by_id.lock();
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            sessions.remove(&id);
            return if epoch == FINAL_EPOCH { Context::Sessionless(asked) } else { Context::Full(asked) };
        }
        let Some(session) = sessions.get_mut(&id) else {
            return Context::Error(ErrorCode::FetchSessionIdNotFound);
        };
        if session.epoch != epoch {
            return Context::Error(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Context::Error(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(&asked, forgotten);
        if session.partitions.is_empty() {
            sessions.remove(&id);
            return Context::Sessionless(asked);
        }
        session.used_ms = now_ms;
        session.epoch = next_epoch(epoch);
        let asked = session.partitions.values().map(|cached| cached.asked.clone()).collect();
        Context::Incremental { id, epoch: session.epoch, asked }
    }

    /// Makes the response of what was fetched, one result for each of [`Context::asked`] in that order.
    pub(crate) fn finish(&self, context: Context, results: Vec<FetchPartition>, now_ms: i64) -> FetchResponse {
        match context {
            Context::Error(error) => FetchResponse { error_code: error.code(), ..FetchResponse::default() },
            Context::Sessionless(asked) => {
                FetchResponse { topics: by_topic(asked, results), ..FetchResponse::default() }
            }
            Context::Full(asked) => {
                let session_id = self.create(&asked, &results, now_ms);
                FetchResponse { session_id, topics: by_topic(asked, results), ..FetchResponse::default() }
            }
            Context::Incremental { id, epoch, asked } => {
                let mut sessions = self.by_id.lock();
                let Some(session) = sessions.get_mut(&id).filter(|session| session.epoch == epoch) else {
                    let error_code = ErrorCode::InvalidFetchSessionEpoch.code();
                    return FetchResponse { error_code, session_id: id, ..FetchResponse::default() };
                };
                let (asked, results) =
                    asked.into_iter().zip(results).filter(|(asked, result)| session.must_answer(asked, result)).unzip();
                FetchResponse { session_id: id, topics: by_topic(asked, results), ..FetchResponse::default() }
            }
        }
    }

    /// Begins a session and returns its id, 0 when there is no room.
    fn create(&self, asked: &[Asked], results: &[FetchPartition], now_ms: i64) -> i32 {
        // Version 12 and below name topics, so an id tells which kind of request this was.
        let Some(first) = asked.first() else { return 0 };
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids: !first.topic.id.is_nil(),
            created_ms: now_ms,
            used_ms: now_ms,
            next_place: 0,
            places: HashMap::with_capacity(asked.len()),
            partitions: BTreeMap::new(),
        };
        session.update(asked, &[]);
        for (asked, result) in asked.iter().zip(results) {
            if let Some(cached) = session.find(asked) {
                cached.high_watermark = result.high_watermark;
                cached.log_start_offset = result.log_start_offset;
            }
        }
        let mut sessions = self.by_id.lock();
        if sessions.len() >= self.slots && !evict(&mut sessions, session.partitions.len(), now_ms) {
            return 0;
        }
        let id = loop {
            let id = rand::random_range(1..=i32::MAX);
            if !sessions.contains_key(&id) {
                break id;
            }
        };
        sessions.insert(id, session);
        id
    }
}

/// Makes room for a session of so many partitions.
fn evict(sessions: &mut HashMap<i32, Session>, partitions: usize, now_ms: i64) -> bool {
    let stale =
        sessions.iter().min_by_key(|(_, session)| session.used_ms).filter(|(_, s)| now_ms - s.used_ms > EVICTION_MS);
    let smaller = || {
        let old = sessions.iter().filter(|(_, session)| now_ms - session.created_ms > EVICTION_MS);
        old.min_by_key(|(_, s)| s.partitions.len()).filter(|(_, s)| s.partitions.len() <= partitions)
    };
    let Some(id) = stale.or_else(smaller).map(|(id, _)| *id) else { return false };
    sessions.remove(&id).is_some()
}

impl Session {
    fn update(&mut self, asked: &[Asked], forgotten: &[(TopicKey, i32)]) {
        let mut owned = TopicKey { name: StrBytes::default(), id: Uuid::nil() };
        for asked in asked {
            if let Some(cached) = self.find(asked) {
                let topic = cached.asked.topic.clone();
                cached.asked = Asked { topic, ..asked.clone() };
                continue;
            }
            if owned != asked.topic {
                // A name that is a slice of the request would keep the whole request in memory.
                owned = TopicKey { name: StrBytes::from_string(asked.topic.name.to_string()), id: asked.topic.id };
            }
            let asked = Asked { topic: owned.clone(), ..asked.clone() };
            self.places.insert((owned.clone(), asked.partition), self.next_place);
            self.partitions.insert(self.next_place, Cached { asked, high_watermark: -1, log_start_offset: -1 });
            self.next_place += 1;
        }
        for forgotten in forgotten {
            if let Some(place) = self.places.remove(forgotten) {
                self.partitions.remove(&place);
            }
        }
    }

    fn find(&mut self, asked: &Asked) -> Option<&mut Cached> {
        let place = self.places.get(&(asked.topic.clone(), asked.partition))?;
        self.partitions.get_mut(place)
    }

    /// True when the client has to hear of this result. A partition that delivers moves to the end of the order.
    fn must_answer(&mut self, asked: &Asked, result: &FetchPartition) -> bool {
        let Some(&place) = self.places.get(&(asked.topic.clone(), asked.partition)) else { return false };
        let Some(cached) = self.partitions.get_mut(&place) else { return false };
        let has_records = !result.records.is_empty();
        let failed = result.error_code != 0;
        let must_answer = has_records
            || failed
            || result.diverging_epoch.is_some()
            || cached.high_watermark != result.high_watermark
            || cached.log_start_offset != result.log_start_offset;
        // After an error the partition is sent again even if it then looks as it did before.
        cached.high_watermark = if failed { -1 } else { result.high_watermark };
        cached.log_start_offset = result.log_start_offset;
        if has_records && let Some(cached) = self.partitions.remove(&place) {
            self.places.insert((cached.asked.topic.clone(), asked.partition), self.next_place);
            self.partitions.insert(self.next_place, cached);
            self.next_place += 1;
        }
        must_answer
    }
}

fn by_topic(asked: Vec<Asked>, results: Vec<FetchPartition>) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (asked, result) in asked.into_iter().zip(results) {
        match topics.last_mut() {
            Some(last) if last.id == asked.topic.id && last.name == asked.topic.name => last.partitions.push(result),
            _ => topics.push(FetchTopic { name: asked.topic.name, id: asked.topic.id, partitions: vec![result] }),
        }
    }
    topics
}

/// Epochs count from 1 and, after `i32::MAX`, from 1 again.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use krocket_protocol::chunk::Chunk;

    use super::*;

    fn key(name: &'static str) -> TopicKey {
        TopicKey { name: StrBytes::from_static_str(name), id: Uuid::nil() }
    }

    fn asked(name: &'static str, partition: i32, offset: i64) -> Asked {
        Asked { topic: key(name), partition, offset, max_bytes: 100, current_leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn result(index: i32, high_watermark: i64, records: &'static str) -> FetchPartition {
        let records = Chunk::Bytes(Bytes::from_static(records.as_bytes()));
        let records = if records.is_empty() { Vec::new() } else { vec![records] };
        FetchPartition { high_watermark, log_start_offset: 0, records, ..FetchPartition::error(index, 0) }
    }

    fn open(sessions: &Sessions, partitions: i32, now_ms: i64) -> i32 {
        let wanted = (0..partitions).map(|p| asked("t", p, 0)).collect();
        let context = sessions.begin((0, 0), false, wanted, &[], now_ms);
        let results = (0..partitions).map(|p| result(p, 5, "")).collect();
        sessions.finish(context, results, now_ms).session_id
    }

    fn partitions(context: &Context) -> Vec<(i32, i64)> {
        context.asked().iter().map(|asked| (asked.partition, asked.offset)).collect()
    }

    #[test]
    fn an_incremental_fetch_answers_what_changed() {
        let sessions = Sessions::default();
        let id = open(&sessions, 3, 0);
        assert_ne!(id, 0);
        let context = sessions.begin((id, 1), false, vec![asked("t", 1, 9)], &[], 0);
        assert_eq!(partitions(&context), [(0, 0), (1, 9), (2, 0)]);
        let results = vec![result(0, 5, ""), result(1, 5, "data"), result(2, 6, "")];
        let response = sessions.finish(context, results, 0);
        assert_eq!(response.session_id, id);
        let answered: Vec<_> = response.topics[0].partitions.iter().map(|p| p.index).collect();
        assert_eq!(answered, [1, 2]);
        // What delivered comes last next time.
        let context = sessions.begin((id, 2), false, vec![], &[], 0);
        assert_eq!(partitions(&context), [(0, 0), (2, 0), (1, 9)]);
        let results = vec![result(0, 5, ""), result(2, 6, ""), result(1, 5, "")];
        assert!(sessions.finish(context, results, 0).topics.is_empty());
    }

    #[test]
    fn an_error_is_answered_and_so_is_its_end() {
        let sessions = Sessions::default();
        let id = open(&sessions, 1, 0);
        let context = sessions.begin((id, 1), false, vec![], &[], 0);
        assert_eq!(sessions.finish(context, vec![FetchPartition::error(0, 3)], 0).topics.len(), 1);
        let context = sessions.begin((id, 2), false, vec![], &[], 0);
        assert_eq!(sessions.finish(context, vec![result(0, 5, "")], 0).topics.len(), 1);
        let context = sessions.begin((id, 3), false, vec![], &[], 0);
        assert_eq!(sessions.finish(context, vec![result(0, 5, "")], 0).topics.len(), 0);
    }

    #[test]
    fn forgotten_partitions_are_left_out_and_the_last_one_ends_the_session() {
        let sessions = Sessions::default();
        let id = open(&sessions, 2, 0);
        let context = sessions.begin((id, 1), false, vec![], &[(key("t"), 0)], 0);
        assert_eq!(partitions(&context), [(1, 0)]);
        let context = sessions.begin((id, 2), false, vec![], &[(key("t"), 1)], 0);
        assert!(matches!(context, Context::Sessionless(_)));
        let context = sessions.begin((id, 3), false, vec![], &[], 0);
        assert!(matches!(context, Context::Error(ErrorCode::FetchSessionIdNotFound)));
    }

    #[test]
    fn epochs_are_checked() {
        let sessions = Sessions::default();
        let id = open(&sessions, 1, 0);
        for epoch in [2, 3, i32::MAX] {
            let context = sessions.begin((id, epoch), false, vec![], &[], 0);
            assert!(matches!(context, Context::Error(ErrorCode::InvalidFetchSessionEpoch)), "{epoch}");
        }
        let context = sessions.begin((id, 1), true, vec![], &[], 0);
        assert!(matches!(context, Context::Error(ErrorCode::FetchSessionTopicIdError)));
        // A request that overtakes a waiting one makes the waiting one's answer void.
        let waiting = sessions.begin((id, 1), false, vec![], &[], 0);
        let newer = sessions.begin((id, 2), false, vec![], &[], 0);
        let response = sessions.finish(waiting, vec![result(0, 9, "x")], 0);
        assert_eq!(response.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
        assert_eq!(sessions.finish(newer, vec![result(0, 9, "x")], 0).error_code, 0);
        assert_eq!(next_epoch(i32::MAX), 1);
    }

    #[test]
    fn a_full_request_or_the_final_epoch_ends_the_session_it_names() {
        let sessions = Sessions::default();
        for epoch in [0, -1] {
            let id = open(&sessions, 1, 0);
            sessions.begin((id, epoch), false, vec![asked("t", 0, 0)], &[], 0);
            let context = sessions.begin((id, 1), false, vec![], &[], 0);
            assert!(matches!(context, Context::Error(ErrorCode::FetchSessionIdNotFound)));
        }
    }

    #[test]
    fn idle_sessions_make_room_then_old_small_ones() {
        let sessions = Sessions { slots: 2, ..Sessions::default() };
        let idle = open(&sessions, 5, 0);
        let busy = open(&sessions, 1, 1);
        assert_eq!(open(&sessions, 9, 1000), 0, "both are young");
        let now = EVICTION_MS + 500;
        assert!(matches!(sessions.begin((busy, 1), false, vec![], &[], now), Context::Incremental { .. }));
        let third = open(&sessions, 2, now);
        assert_ne!(third, 0);
        assert!(matches!(sessions.begin((idle, 1), false, vec![], &[], now), Context::Error(_)));
        // The busy one is old and no larger than the newcomer.
        assert_ne!(open(&sessions, 2, now + 1), 0);
        assert!(matches!(sessions.begin((busy, 2), false, vec![], &[], now), Context::Error(_)));
        assert!(matches!(sessions.begin((third, 1), false, vec![], &[], now), Context::Incremental { .. }));
    }
}
