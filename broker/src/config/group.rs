//! Group configs (KIP-848): the table and the typed view of one group's effective values.

use std::collections::BTreeMap;

use super::{BrokerConfig, ConfigDef, InvalidConfig, Kind, Promise, find};

/// Every group config, by name. Share and streams groups are not served, and neither are their configs.
pub static TABLE: &[ConfigDef] = &[
    ConfigDef {
        name: "consumer.heartbeat.interval.ms",
        kind: Kind::Int(1, i32::MAX),
        default: "5000",
        synonym: "group.consumer.heartbeat.interval.ms",
        doc: "How often members of the group send heartbeats, ms.",
        promise: Promise::Enforced("groups"),
    },
    ConfigDef {
        name: "consumer.session.timeout.ms",
        kind: Kind::Int(1, i32::MAX),
        default: "45000",
        synonym: "group.consumer.session.timeout.ms",
        doc: "How long a member of the group may be silent before it is removed, ms.",
        promise: Promise::Enforced("groups"),
    },
];

/// A group's effective configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// consumer.heartbeat.interval.ms
    pub consumer_heartbeat_interval_ms: i32,
    /// consumer.session.timeout.ms
    pub consumer_session_timeout_ms: i32,
}

impl GroupConfig {
    /// What holds for a group with these overrides. A stored value outside the broker's bounds is moved to the bound, as
    /// Kafka does when the bounds have changed since.
    pub fn resolve(overrides: Option<&BTreeMap<String, String>>, broker: &BrokerConfig) -> Self {
        let set = |name: &str| {
            let def = find(TABLE, name).expect("a name of the table");
            let text = overrides?.get(name)?;
            def.kind.parse(name, text).ok().map(|value| value.int())
        };
        let clamp = |value: i32, (min, max): (i32, i32)| value.max(min).min(max);
        GroupConfig {
            consumer_heartbeat_interval_ms: set("consumer.heartbeat.interval.ms")
                .map_or(broker.consumer_heartbeat_interval_ms, |ms| {
                    clamp(ms, broker.consumer_heartbeat_interval_bounds)
                }),
            consumer_session_timeout_ms: set("consumer.session.timeout.ms")
                .map_or(broker.consumer_session_timeout_ms, |ms| clamp(ms, broker.consumer_session_timeout_bounds)),
        }
    }
}

/// Checks a group's new overrides against each other and the broker's bounds (GroupConfig.validateValues).
pub fn check_bounds(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), InvalidConfig> {
    let bounds = [
        ("consumer.heartbeat.interval.ms", "heartbeat.interval.ms", broker.consumer_heartbeat_interval_bounds),
        ("consumer.session.timeout.ms", "session.timeout.ms", broker.consumer_session_timeout_bounds),
    ];
    for (name, suffix, (min, max)) in bounds {
        let Some(text) = overrides.get(name) else { continue };
        let def = find(TABLE, name).expect("a name of the table");
        let value = def.kind.parse(name, text)?.int();
        if value < min {
            return Err(InvalidConfig(format!("{name} must be greater than or equal to group.consumer.min.{suffix}")));
        }
        if value > max {
            return Err(InvalidConfig(format!("{name} must be less than or equal to group.consumer.max.{suffix}")));
        }
    }
    let config = GroupConfig::resolve(Some(overrides), broker);
    if config.consumer_session_timeout_ms <= config.consumer_heartbeat_interval_ms {
        return Err(InvalidConfig(
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_group_overrides_the_broker_within_its_bounds() {
        let broker = BrokerConfig::default();
        let session = |value| overrides("consumer.session.timeout.ms", value);
        assert_eq!(GroupConfig::resolve(None, &broker).consumer_session_timeout_ms, 45_000);
        assert_eq!(GroupConfig::resolve(Some(&session("50000")), &broker).consumer_session_timeout_ms, 50_000);
        assert_eq!(GroupConfig::resolve(Some(&session("90000")), &broker).consumer_session_timeout_ms, 60_000);
        assert_eq!(check_bounds(&session("50000"), &broker), Ok(()));
        for (value, why) in
            [("44999", "group.consumer.min.session.timeout.ms"), ("60001", "group.consumer.max.session.timeout.ms")]
        {
            let error = check_bounds(&session(value), &broker).expect_err(value).to_string();
            assert!(error.contains(why), "{error}");
        }
        check_bounds(&overrides("consumer.heartbeat.interval.ms", "1"), &broker).expect_err("below the least");
    }
}
