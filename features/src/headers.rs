//! Header names that mean something, RocketMQ's where it has them, and which of them a batch mentions.

pub use krocket_protocol::records::MAX_DECOMPRESSED;
use krocket_protocol::records::{Mentioned, Names};
use krocket_stack::ProducePartition;
use std::sync::LazyLock;

macro_rules! headers {
    ($($(#[$meta:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A header name with a meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "spelt as on the wire")]
        pub enum Name { $($(#[$meta])* $name),* }

        const ALL: &[&str] = &[$($text),*];

        $($(#[$meta])* pub const $name: &str = $text;)*
    };
}

headers! {
    /// The record's tags, separated by `||`.
    TAGS = "TAGS",
    /// Business keys, separated by one space.
    KEYS = "KEYS",
    /// The client's own id of the message.
    UNIQ_KEY = "UNIQ_KEY",
    /// Deliver at this time, epoch ms.
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS",
    /// Deliver after so many ms.
    TIMER_DELAY_MS = "TIMER_DELAY_MS",
    /// Deliver after so many seconds.
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC",
    /// Delay level, from 1.
    DELAY = "DELAY",
    /// Cancels the pending message with this UNIQ_KEY or message id.
    TIMER_DEL_UNIQKEY = "TIMER_DEL_UNIQKEY",
    /// `true`: a half message.
    TRAN_MSG = "TRAN_MSG",
    /// The producer group that knows how a half message ends.
    PGROUP = "PGROUP",
    /// No check-back before so many seconds.
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS",
    /// `COMMIT` or `ROLLBACK`: ends a half message.
    TRAN_END = "TRAN_END",
    /// Message id of the first copy. On a record that krocket made: it triggers nothing again.
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID",
    /// Overrides the group's retry limit.
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES",
    /// How often the message was retried.
    RECONSUME_TIMES = "RECONSUME_TIMES",
}

/// Set by krocket on what it delivers: the original timestamp, epoch ms.
pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
/// Set by krocket on retried records: the topic that the message was first consumed from.
pub const REAL_TOPIC: &str = "REAL_TOPIC";
/// Topic config that makes a topic a view: the topic that it shows a part of, with its partitions and offsets.
pub const VIEW_SOURCE: &str = "krocket.view.source";
/// Set by consumers on what they send to retry: the reason.
pub const ERROR: &str = "ERROR";

static NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(ALL));

/// Which names a batch mentions. One walk a batch, whoever asks first; none where the batch is malformed: the backend
/// says what is wrong with it.
pub fn mentioned(partition: &mut ProducePartition) -> Headers {
    let records = &partition.records;
    let walked = partition.walked.take().filter(|walked| walked.is_of(records));
    let walked = walked.unwrap_or_else(|| NAMES.walk(records, MAX_DECOMPRESSED));
    Headers(partition.walked.insert(walked).mentioned())
}

/// Names that a batch mentions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers(Mentioned);

impl Headers {
    /// True when none is.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// True when one of these is.
    pub fn any(self, names: &[Name]) -> bool {
        names.iter().any(|name| self.0.has(*name as usize))
    }
}
