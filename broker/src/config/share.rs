//! What the configs say about the records of one share group. Who its members are is [`super::GroupConfig`]'s matter.

use std::collections::BTreeMap;
use std::time::Duration;

use super::broker::Bounded;
use super::{BrokerConfig, Value, find, group};

/// Most steps of a list of waits.
const MAX_STEPS: usize = 64;
/// The longest wait of any kind.
const MAX_WAIT: Duration = Duration::from_secs(366 * 24 * 3600);
/// What `exponential` alone means: the first wait, and the longest.
const EXPONENTIAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Where a group starts in a partition that it has not read yet (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// After the last record.
    #[default]
    Latest,
    /// At the first record.
    Earliest,
    /// At the first record that is not older than this.
    ByDuration(Duration),
}

/// How long a record waits after it was released or its lock was lost (`krocket.retry.backoff`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backoff {
    /// Not at all, as in Kafka.
    #[default]
    None,
    /// This long after the first delivery, the second and so on; the last one goes on.
    Steps(Vec<Duration>),
    /// Twice as long each time.
    Exponential {
        /// After the first delivery.
        initial: Duration,
        /// The longest wait.
        max: Duration,
    },
}

/// A share group's effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// share.record.lock.duration.ms
    pub record_lock_duration_ms: i32,
    /// share.delivery.count.limit
    pub delivery_count_limit: i32,
    /// True where that was set for this very group.
    pub delivery_count_limit_is_set: bool,
    /// share.partition.max.record.locks
    pub partition_max_record_locks: i32,
    /// share.auto.offset.reset
    pub auto_offset_reset: OffsetReset,
    /// share.isolation.level is read_committed
    pub read_committed: bool,
    /// share.renew.acknowledge.enable
    pub renew_acknowledge: bool,
    /// errors.deadletterqueue.topic.name
    pub dlq_topic: Option<String>,
    /// errors.deadletterqueue.copy.record.enable
    pub dlq_copy_record: bool,
    /// krocket.filter
    pub filter: Option<String>,
    /// krocket.retry.backoff
    pub retry_backoff: Backoff,
    /// krocket.share.key.order
    pub key_order: bool,
    /// krocket.share.priority.header
    pub priority_header: Option<String>,
}

impl ShareConfig {
    /// What holds for a group with these overrides. A stored value that is no longer valid does not count; one outside the
    /// broker's bounds is moved to the bound.
    pub fn resolve(overrides: Option<&BTreeMap<String, String>>, broker: &BrokerConfig) -> Self {
        let set = |name: &str| -> Option<Value> {
            let def = find(group::TABLE, name).expect("a name of the table");
            def.kind.parse(name, overrides?.get(name)?).ok()
        };
        let value = |name: &str| {
            set(name).unwrap_or_else(|| find(group::TABLE, name).expect("a name of the table").default_value())
        };
        let number = |name: &str, default: Bounded| set(name).map_or(default.value, |value| default.clamp(value.int()));
        let text = |name: &str| Some(value(name).to_string()).filter(|text| !text.is_empty());
        ShareConfig {
            record_lock_duration_ms: number("share.record.lock.duration.ms", broker.share_record_lock_duration_ms),
            delivery_count_limit_is_set: set("share.delivery.count.limit").is_some(),
            delivery_count_limit: number("share.delivery.count.limit", broker.share_delivery_count_limit),
            partition_max_record_locks: number(
                "share.partition.max.record.locks",
                broker.share_partition_max_record_locks,
            ),
            auto_offset_reset: OffsetReset::parse(&value("share.auto.offset.reset").to_string()).unwrap_or_default(),
            read_committed: value("share.isolation.level").has("read_committed"),
            renew_acknowledge: value("share.renew.acknowledge.enable").boolean(),
            dlq_topic: text("errors.deadletterqueue.topic.name"),
            dlq_copy_record: value("errors.deadletterqueue.copy.record.enable").boolean(),
            filter: text("krocket.filter"),
            retry_backoff: Backoff::parse(&value("krocket.retry.backoff").to_string()).unwrap_or_default(),
            key_order: value("krocket.share.key.order").boolean(),
            priority_header: text("krocket.share.priority.header"),
        }
    }
}

impl OffsetReset {
    /// `latest`, `earliest` or `by_duration:` and an ISO 8601 duration such as `PT1H30M`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(OffsetReset::Latest),
            "earliest" => Ok(OffsetReset::Earliest),
            text => {
                let duration = text.strip_prefix("by_duration:").and_then(iso_duration);
                duration.map(OffsetReset::ByDuration).ok_or_else(|| {
                    "it must be 'latest', 'earliest' or of the format 'by_duration:PnDTnHnMn.nS' with a duration that is not negative".to_owned()
                })
            }
        }
    }
}

impl Backoff {
    /// Nothing, waits such as `1s 5s 30s`, or `exponential` with, if one likes, the first wait and the longest.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace().peekable();
        if words.next_if_eq(&"exponential").is_none() {
            let steps = words.map(wait).collect::<Result<Vec<_>, _>>()?;
            return match steps.len() {
                0 => Ok(Backoff::None),
                1..=MAX_STEPS => Ok(Backoff::Steps(steps)),
                _ => Err(format!("at most {MAX_STEPS} waits are allowed")),
            };
        }
        let initial = words.next().map_or(Ok(EXPONENTIAL.0), wait)?;
        let max = words.next().map_or(Ok(EXPONENTIAL.1.max(initial)), wait)?;
        match words.next() {
            Some(_) => Err("after 'exponential' come at most the first wait and the longest".to_owned()),
            None if initial.is_zero() || max < initial => {
                Err("the first wait must be above zero and not above the longest".to_owned())
            }
            None => Ok(Backoff::Exponential { initial, max }),
        }
    }

    /// How long to wait after this many deliveries.
    pub fn after(&self, deliveries: u32) -> Duration {
        let before = deliveries.saturating_sub(1);
        match self {
            Backoff::None => Duration::ZERO,
            Backoff::Steps(steps) => steps.get(before as usize).or(steps.last()).copied().unwrap_or_default(),
            Backoff::Exponential { initial, max } => {
                let factor = 1u32.checked_shl(before).unwrap_or(u32::MAX);
                initial.checked_mul(factor).map_or(*max, |wait| wait.min(*max))
            }
        }
    }
}

/// `10ms`, `1s`, `5m`, `2h`, `1d`.
fn wait(text: &str) -> Result<Duration, String> {
    let invalid = || format!("'{text}' is no wait such as 500ms, 10s, 5m, 2h or 1d, up to 366d");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(invalid()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or_else(invalid)?;
    Some(Duration::from_millis(ms)).filter(|wait| *wait <= MAX_WAIT).ok_or_else(invalid)
}

/// Java's `Duration.parse` without signs: `P2DT3H4M5.6S`.
fn iso_duration(text: &str) -> Option<Duration> {
    let upper = text.to_ascii_uppercase();
    let body = upper.strip_prefix('P')?;
    let (days, time) = match body.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (body, ""),
    };
    let mut seconds = 0u64;
    if !days.is_empty() {
        seconds = digits(days.strip_suffix('D')?)?.checked_mul(86_400)?;
    } else if time.is_empty() {
        return None;
    }
    let (mut rest, mut nanos) = (time, 0);
    for (unit, factor) in [('H', 3600), ('M', 60)] {
        if let Some((number, after)) = rest.split_once(unit) {
            seconds = seconds.checked_add(digits(number)?.checked_mul(factor)?)?;
            rest = after;
        }
    }
    if !rest.is_empty() {
        let number = rest.strip_suffix('S')?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        seconds = seconds.checked_add(digits(whole)?)?;
        if fraction.len() > 9 || !fraction.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
        nanos = format!("{fraction:0<9}").parse().ok()?;
    }
    Some(Duration::new(seconds, nanos))
}

fn digits(text: &str) -> Option<u64> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn offset_resets_are_read_as_kafka_reads_them() {
        for (text, expected) in [
            ("latest", OffsetReset::Latest),
            ("earliest", OffsetReset::Earliest),
            ("by_duration:PT1H", OffsetReset::ByDuration(seconds(3600))),
            ("by_duration:P2DT3H4M5.5S", OffsetReset::ByDuration(Duration::new(183_845, 500_000_000))),
            ("by_duration:P1D", OffsetReset::ByDuration(seconds(86_400))),
            ("by_duration:pt0s", OffsetReset::ByDuration(seconds(0))),
        ] {
            assert_eq!(OffsetReset::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "none",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:PT-1H",
            "by_duration:1H",
            "by_duration:PT1",
            "by_duration:PT1M1H",
            "by_duration:P99999999999999999999D",
            "by_duration:PTS",
            "by_duration:P1DT",
            "by_duration:PT1.1234567890S",
        ] {
            let refused = OffsetReset::parse(text);
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
    }

    #[test]
    fn backoffs_are_lists_of_waits_or_double() {
        assert_eq!(Backoff::parse(" "), Ok(Backoff::None));
        let steps = Backoff::parse("500ms 5s  1h").expect("a list");
        let waits = [1, 2, 3, 4, u32::MAX].map(|deliveries| steps.after(deliveries));
        assert_eq!(waits, [Duration::from_millis(500), seconds(5), seconds(3600), seconds(3600), seconds(3600)]);
        let double = Backoff::parse("exponential").expect("the default");
        assert_eq!([1, 2, 10, 11, 40, u32::MAX].map(|n| double.after(n)), [1, 2, 512, 600, 600, 600].map(seconds));
        let double = Backoff::parse("exponential 3s 10s").expect("with waits");
        assert_eq!([1, 2, 3].map(|deliveries| double.after(deliveries)), [3, 6, 10].map(seconds));
        assert_eq!(Backoff::None.after(7), Duration::ZERO);
        for text in [
            "1",
            "s",
            "1x",
            "-1s",
            "1s,2s",
            "367d",
            "exponential 0s",
            "exponential 9s 1s",
            "exponential 1s 2s 3s",
            "99999999999999999999d",
        ] {
            let refused = Backoff::parse(text);
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
        Backoff::parse(&"1s ".repeat(MAX_STEPS + 1)).expect_err("too many");
    }

    #[test]
    fn a_group_overrides_the_broker_within_its_bounds() {
        let broker = BrokerConfig::default();
        let default = ShareConfig::resolve(None, &broker);
        let numbers = |config: &ShareConfig| {
            [config.record_lock_duration_ms, config.delivery_count_limit, config.partition_max_record_locks]
        };
        assert_eq!(numbers(&default), [30_000, 5, 2000]);
        assert_eq!(default.auto_offset_reset, OffsetReset::Latest);
        assert!(default.renew_acknowledge && !default.read_committed && !default.key_order);
        assert_eq!((&default.dlq_topic, &default.filter, &default.priority_header), (&None, &None, &None));
        let overrides = [
            ("share.record.lock.duration.ms", "3600000"),
            ("share.delivery.count.limit", "100000"),
            ("share.isolation.level", "read_committed"),
            ("krocket.filter", "paid"),
            ("krocket.retry.backoff", "1s 2s"),
        ];
        let overrides = overrides.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let set = ShareConfig::resolve(Some(&overrides), &broker);
        assert_eq!(numbers(&set), [60_000, 100_000, 2000]);
        assert!(set.read_committed);
        assert_eq!(set.filter.as_deref(), Some("paid"));
        assert_eq!(set.retry_backoff, Backoff::Steps(vec![seconds(1), seconds(2)]));
    }
}
