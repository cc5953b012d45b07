//! What a group's state machine works with: the time, the settings, the topics; and what it leaves behind.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use krocket_protocol::{ErrorCode, StrBytes};
use tokio::sync::oneshot;

use super::journal::Write;
use super::offsets::OffsetChange;
use super::settings::GroupSettings;
use super::timers::Timers;
use super::topics::TopicImage;

/// Who asks, and how new its request is.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The client's own name.
    pub id: String,
    /// Its address, as Kafka prints it: `/127.0.0.1`.
    pub host: String,
    /// Version of the request.
    pub version: i16,
}

/// Where the answer to a parked request goes.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// The answer to a parked request. It leaves once everything written up to then is durable.
pub(super) enum Answer {
    Join(Reply<JoinGroupResponse>, JoinGroupResponse),
    Sync(Reply<SyncGroupResponse>, SyncGroupResponse),
}

impl Answer {
    /// A client that has gone away gets none.
    pub(super) fn send(self) {
        match self {
            Answer::Join(reply, response) => drop(reply.send(response)),
            Answer::Sync(reply, response) => drop(reply.send(response)),
        }
    }
}

/// One step of a group. The group's lock is held for the whole of it; nothing in it waits.
pub(super) struct Ctx<'a> {
    pub(super) group: Arc<str>,
    pub(super) now: Instant,
    pub(super) now_ms: i64,
    pub(super) config: &'a GroupSettings,
    pub(super) topics: &'a dyn TopicImage,
    pub(super) timers: &'a mut Timers,
    /// Changes of the group itself.
    pub(super) writes: Vec<Write>,
    /// Changes of its offsets, seen by nobody before they are durable.
    pub(super) offsets: Vec<OffsetChange>,
    /// Answers that wait for the writes.
    pub(super) answers: Vec<Answer>,
}

impl Ctx<'_> {
    pub(super) fn join_error(&mut self, reply: Reply<JoinGroupResponse>, member: &str, code: ErrorCode) {
        let response = JoinGroupResponse::default()
            .with_error_code(code.code())
            .with_generation_id(-1)
            .with_member_id(text(member));
        self.answers.push(Answer::Join(reply, response));
    }

    pub(super) fn sync_error(&mut self, reply: Reply<SyncGroupResponse>, code: ErrorCode) {
        self.answers.push(Answer::Sync(reply, SyncGroupResponse::default().with_error_code(code.code())));
    }
}

/// A string for a message.
pub(super) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A nullable string for a message.
pub(super) fn maybe_text(value: Option<&str>) -> Option<StrBytes> {
    value.map(text)
}
