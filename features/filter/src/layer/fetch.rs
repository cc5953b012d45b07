//! Fetch of views, beside other topics or alone.
//!
//! A request that names a view gets no session (KIP-227): the client then names all of its partitions every time, which
//! is how each request tells whether it concerns this layer. One that names no view passes to the next handler.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use kafka_protocol::messages::FetchRequest;
use krocket_protocol::ErrorCode;
use krocket_protocol::fetch::{FetchPartition, FetchResponse, FetchTopic};
use krocket_stack::{Body, BoxFuture, Error, Handler, Head, Request, Response};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::read::{Found, read};
use crate::registry::{All, Shared};
use crate::view::{Part, View};

/// Most bytes of records in a response.
const MAX_BYTES: usize = 55 << 20;
const NO_SESSION: i32 = 0;
/// Ends a session, or none is wanted.
const FINAL_EPOCH: i32 = -1;

pub(super) async fn call(shared: &Arc<Shared>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<FetchRequest>()?;
    let views = shared.all();
    if !message.topics.iter().any(|topic| views.find(&topic.topic, topic.topic_id).is_some()) {
        return next.call(Request::new(head, message)).await;
    }
    if message.session_id != NO_SESSION && message.session_epoch > 0 {
        // The session is the next handler's, and the view is not part of it: the client begins anew with all partitions.
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return Ok(Response::Body(Body::Fetch(FetchResponse { error_code, ..FetchResponse::default() })));
    }
    let split = Split::new(&views, message);
    let mut answer = Answer { shared, next, head, split };
    Ok(Response::Body(Body::Fetch(answer.run().await?)))
}

/// What is asked of one partition of a view.
#[derive(Clone)]
struct Target {
    index: i32,
    part: Result<Arc<Part>, ErrorCode>,
    offset: i64,
    max_bytes: usize,
}

/// A request in two: the views' part, and the rest.
struct Split {
    /// Topics in the request's order; those of the rest without partitions.
    topics: Vec<(FetchTopic, Option<Vec<Target>>)>,
    views: Vec<Arc<View>>,
    rest: FetchRequest,
    min_bytes: usize,
    max_bytes: usize,
    deadline: Instant,
    read_committed: bool,
}

impl Split {
    fn new(views: &All, mut message: FetchRequest) -> Self {
        let mut split = Split {
            topics: Vec::new(),
            views: Vec::new(),
            min_bytes: message.min_bytes.max(0) as usize,
            max_bytes: (message.max_bytes.max(0) as usize).min(MAX_BYTES),
            deadline: Instant::now() + Duration::from_millis(message.max_wait_ms.max(0) as u64),
            read_committed: message.isolation_level == 1,
            rest: FetchRequest::default(),
        };
        for topic in std::mem::take(&mut message.topics) {
            let answer = FetchTopic { name: topic.topic.0.clone(), id: topic.topic_id, partitions: Vec::new() };
            let Some(view) = views.find(&topic.topic, topic.topic_id) else {
                split.topics.push((answer, None));
                message.topics.push(topic);
                continue;
            };
            let targets = topic.partitions.iter().map(|asked| Target {
                index: asked.partition,
                part: match (&view.filter, view.partition(asked.partition)) {
                    (Err(_), _) => Err(ErrorCode::InvalidConfig),
                    (_, Some(part)) => Ok(part.clone()),
                    (_, None) => Err(ErrorCode::UnknownTopicOrPartition),
                },
                offset: asked.fetch_offset,
                max_bytes: asked.partition_max_bytes.max(0) as usize,
            });
            split.topics.push((answer, Some(targets.collect())));
            split.views.push(view.clone());
        }
        // A session that the client had is ended by this, and none begins.
        message.session_epoch = FINAL_EPOCH;
        message.forgotten_topics_data.clear();
        split.rest = message;
        split
    }

    fn targets(&self) -> Arc<[Target]> {
        self.topics.iter().filter_map(|(_, targets)| targets.as_ref()).flatten().cloned().collect()
    }
}

struct Answer<'a> {
    shared: &'a Arc<Shared>,
    next: &'a dyn Handler,
    head: Head,
    split: Split,
}

impl Answer<'_> {
    async fn run(&mut self) -> Result<FetchResponse, Error> {
        let targets = self.split.targets();
        let parts = || targets.iter().filter_map(|target| target.part.as_ref().ok());
        // Subscribed before the first read: what comes later is not missed.
        let mut ends: Vec<watch::Receiver<i64>> = parts().map(|part| part.end.subscribe()).collect();
        let has_rest = !self.split.rest.topics.is_empty();
        loop {
            let results = self.read(targets.clone()).await;
            let bytes: usize = results.iter().map(FetchPartition::records_len).sum();
            let enough = bytes >= self.split.min_bytes || results.iter().any(|result| result.error_code != 0);
            let now = Instant::now();
            let wait = if enough { Duration::ZERO } else { self.split.deadline.saturating_duration_since(now) };
            if !has_rest && wait.is_zero() {
                return Ok(self.merge(results, FetchResponse::default()));
            }
            let moved = self.moved(&mut ends);
            if wait.is_zero() {
                drop(moved);
                let rest = self.rest(bytes, wait).await?;
                return Ok(self.merge(results, rest));
            }
            let rest: BoxFuture<'_, Result<FetchResponse, Error>> = match has_rest {
                true => self.rest(bytes, wait),
                false => std::future::pending().boxed(),
            };
            tokio::select! {
                rest = rest => {
                    // With what the views have by now: they are no reason to wait longer.
                    let results = self.read(targets.clone()).await;
                    return Ok(self.merge(results, rest?));
                }
                () = moved => {}
                // The rest has the same deadline, and answers at it.
                () = sleep_until(self.split.deadline), if !has_rest => {}
            }
        }
    }

    /// Resolves with the next match, or when a view is replaced.
    fn moved<'b>(&self, ends: &'b mut [watch::Receiver<i64>]) -> BoxFuture<'b, ()> {
        let gone = self.split.views.iter().map(|view| {
            let replaced = view.replaced.clone();
            async move { replaced.cancelled_owned().await }.boxed()
        });
        // Once replaced it would always be ready: then only the deadline ends the wait.
        let live = self.split.views.iter().all(|view| !view.replaced.is_cancelled());
        let matches = ends.iter_mut().map(|end| {
            async move {
                if end.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            .boxed()
        });
        let mut all: Vec<BoxFuture<'b, ()>> = matches.collect();
        if live {
            all.extend(gone);
        }
        if all.is_empty() {
            return std::future::pending().boxed();
        }
        async move { drop(select_all(all).await) }.boxed()
    }

    /// Fetches what is no view, as a request without a session.
    fn rest(&self, found: usize, wait: Duration) -> BoxFuture<'_, Result<FetchResponse, Error>> {
        let mut message = self.split.rest.clone();
        message.max_wait_ms = wait.as_millis().try_into().unwrap_or(i32::MAX);
        message.min_bytes = self.split.min_bytes.saturating_sub(found).try_into().unwrap_or(i32::MAX);
        message.max_bytes = self.split.max_bytes.saturating_sub(found).try_into().unwrap_or(i32::MAX);
        let head = self.head.clone();
        async move {
            match self.next.call(Request::new(head, message)).await? {
                Response::Body(body) => body.into_fetch(),
                Response::None => Err(Error::WrongType { expected: "FetchResponse" }),
            }
        }
        .boxed()
    }

    async fn read(&self, targets: Arc<[Target]>) -> Vec<FetchPartition> {
        let (max_bytes, read_committed) = (self.split.max_bytes, self.split.read_committed);
        let asked = targets.clone();
        let read = self.shared.blocking(move |ledger| {
            let (mut left, mut at_least_one) = (max_bytes, true);
            let mut results = Vec::with_capacity(asked.len());
            for target in asked.iter() {
                let result = read_target(ledger, target, left, at_least_one, read_committed);
                left = left.saturating_sub(result.records_len());
                at_least_one &= result.records.is_empty();
                results.push(result);
            }
            Ok(results)
        });
        let failed =
            || targets.iter().map(|target| FetchPartition::error(target.index, ErrorCode::UnknownServerError.code()));
        read.await.unwrap_or_else(|_| failed().collect())
    }

    /// Both parts in the order of the request.
    fn merge(&mut self, views: Vec<FetchPartition>, rest: FetchResponse) -> FetchResponse {
        let mut views = views.into_iter();
        let mut others: VecDeque<FetchTopic> = rest.topics.into();
        let mut topics = Vec::with_capacity(self.split.topics.len());
        for (topic, targets) in self.split.topics.drain(..) {
            match targets {
                Some(targets) => {
                    let partitions = views.by_ref().take(targets.len()).collect();
                    topics.push(FetchTopic { partitions, ..topic });
                }
                None if others.front().is_some_and(|other| other.name == topic.name && other.id == topic.id) => {
                    topics.extend(others.pop_front());
                }
                None => {}
            }
        }
        topics.extend(others);
        FetchResponse {
            error_code: rest.error_code,
            throttle_time_ms: rest.throttle_time_ms,
            session_id: NO_SESSION,
            topics,
        }
    }
}

fn read_target(
    ledger: &dyn krocket_stack::Ledger,
    target: &Target,
    left: usize,
    at_least_one: bool,
    read_committed: bool,
) -> FetchPartition {
    let error = |code: ErrorCode| FetchPartition::error(target.index, code.code());
    let part = match &target.part {
        Ok(part) => part,
        Err(code) => return error(*code),
    };
    let Some(source) = ledger.partition(part.source) else { return error(ErrorCode::UnknownTopicOrPartition) };
    // A position past the last match is fine: offsets are the source's.
    if !(source.log_start..=source.end.max(source.high_watermark)).contains(&target.offset) {
        return error(ErrorCode::OffsetOutOfRange);
    }
    // Known before it is read, so that what it promises is in what was read.
    let end = *part.end.borrow();
    let (ready, caught_up) = part.readiness();
    let found = match ready {
        true => {
            let stable = read_committed.then_some(source.last_stable);
            read(ledger, part, target.offset, left.min(target.max_bytes), at_least_one, stable)
        }
        false => Ok(Found::default()),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, topic = %source.topic, partition = source.index, "a view cannot be read");
            return FetchPartition::error(target.index, ErrorCode::KafkaStorageError.code());
        }
    };
    let known = end.max(found.end).max(source.log_start);
    // While older records are still being looked at nobody may take this for the end (`kcat -e` would).
    let high_watermark = if caught_up { known } else { known.max(source.high_watermark) };
    FetchPartition {
        high_watermark,
        last_stable_offset: high_watermark.min(source.last_stable),
        log_start_offset: source.log_start,
        aborted: read_committed.then(Vec::new),
        records: found.chunks,
        ..FetchPartition::error(target.index, 0)
    }
}
