//! What a change of configs makes of them, checked before anything is stored.

use std::collections::BTreeMap;

use super::{BrokerConfig, ConfigDef, InvalidConfig, Layers, TopicConfig, broker, find, group, topic};

/// Longest value, as in Kafka.
const MAX_VALUE: usize = i16::MAX as usize;

/// The resource types whose configs can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A topic.
    Topic,
    /// This broker or all of them.
    Broker,
    /// A group.
    Group,
}

/// One change of one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the value.
    Set(String),
    /// Goes back to the default.
    Delete,
    /// Adds these items to a list.
    Append(String),
    /// Takes these items off a list.
    Subtract(String),
}

impl Scope {
    fn table(self) -> &'static [ConfigDef] {
        match self {
            Scope::Topic => topic::TABLE,
            Scope::Broker => broker::table(),
            Scope::Group => group::TABLE,
        }
    }

    /// The row of a name; clients see the sentence.
    fn find(self, name: &str) -> Result<&'static ConfigDef, InvalidConfig> {
        let noun = match self {
            Scope::Topic => "topic",
            Scope::Broker => "broker",
            Scope::Group => "group",
        };
        find(self.table(), name).ok_or_else(|| InvalidConfig(format!("Unknown {noun} config name: {name}")))
    }

    /// Replaces everything that was set (AlterConfigs, CreateTopics).
    pub fn replace(
        self,
        new: impl IntoIterator<Item = (String, String)>,
    ) -> Result<BTreeMap<String, String>, InvalidConfig> {
        let ops = new.into_iter().map(|(name, value)| (name, Op::Set(value)));
        self.apply(&BTreeMap::new(), ops)
    }

    /// Applies the changes in turn (IncrementalAlterConfigs).
    pub fn apply(
        self,
        current: &BTreeMap<String, String>,
        ops: impl IntoIterator<Item = (String, Op)>,
    ) -> Result<BTreeMap<String, String>, InvalidConfig> {
        let mut configs = current.clone();
        for (name, op) in ops {
            let value = match op {
                Op::Delete => {
                    self.find(&name)?;
                    configs.remove(&name);
                    continue;
                }
                Op::Set(value) => value,
                Op::Append(items) => self.list(&name, &configs, "append", |list| {
                    let new: Vec<_> = split(&items).filter(|item| !list.contains(item)).collect();
                    list.extend(new);
                })?,
                Op::Subtract(items) => self.list(&name, &configs, "subtract", |list| {
                    list.retain(|item| !split(&items).any(|gone| gone == *item));
                })?,
            };
            if value.len() > MAX_VALUE {
                return Err(InvalidConfig(format!("The value of {name} is longer than {MAX_VALUE} bytes.")));
            }
            let value = self.find(&name)?.check(&value)?;
            configs.insert(name, value.to_string());
        }
        Ok(configs)
    }

    fn list(
        self,
        name: &str,
        configs: &BTreeMap<String, String>,
        verb: &str,
        change: impl FnOnce(&mut Vec<String>),
    ) -> Result<String, InvalidConfig> {
        let def = self.find(name)?;
        if !def.kind.is_list() {
            return Err(InvalidConfig(format!("Can't {verb} to key {name} because its type is not LIST.")));
        }
        let current = configs.get(name).map_or(def.default, String::as_str);
        let mut list = split(current).collect();
        change(&mut list);
        Ok(list.join(","))
    }

    /// Checks the outcome as a whole: values that contradict each other or the broker's bounds.
    pub fn check(
        self,
        configs: &BTreeMap<String, String>,
        layers: &Layers,
        broker: &BrokerConfig,
    ) -> Result<(), InvalidConfig> {
        match self {
            Scope::Group => group::check_bounds(configs, broker),
            Scope::Topic => check_lag(&TopicConfig::resolve(configs.clone(), layers)),
            // What topics would inherit, and nothing else can contradict.
            Scope::Broker => check_lag(&TopicConfig::resolve(BTreeMap::new(), layers)),
        }
    }
}

/// LogConfig.validateValues
pub(super) fn check_lag(config: &TopicConfig) -> Result<(), InvalidConfig> {
    let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
    if min > max {
        return Err(InvalidConfig(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    Ok(())
}

fn split(items: &str) -> impl Iterator<Item = String> {
    items.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(current: &[(&str, &str)], name: &str, op: Op) -> Result<String, String> {
        let current = current.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let configs = Scope::Topic.apply(&current, [(name.to_owned(), op)]).map_err(|error| error.to_string())?;
        Ok(configs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn operations_do_what_kafkas_do() {
        let set = |text: &str| Op::Set(text.to_owned());
        let append = |text: &str| Op::Append(text.to_owned());
        let subtract = |text: &str| Op::Subtract(text.to_owned());
        let cases: &[(&[(&str, &str)], &str, Op, Result<&str, &str>)] = &[
            (&[], "retention.ms", set("5"), Ok("retention.ms=5")),
            (&[("retention.ms", "5")], "retention.ms", Op::Delete, Ok("")),
            (&[], "retention.ms", Op::Delete, Ok("")),
            (&[], "cleanup.policy", append("compact"), Ok("cleanup.policy=delete,compact")),
            (&[("cleanup.policy", "compact")], "cleanup.policy", append("compact"), Ok("cleanup.policy=compact")),
            (
                &[("cleanup.policy", "compact,delete")],
                "cleanup.policy",
                subtract("delete"),
                Ok("cleanup.policy=compact"),
            ),
            (&[], "cleanup.policy", append("forget"), Err("String must be one of")),
            (&[], "retention.ms", append("5"), Err("its type is not LIST")),
            (&[], "retention.ms", set("-2"), Err("Value must be at least -1")),
            (&[], "retention", set("5"), Err("Unknown topic config name: retention")),
            (&[], "retention", Op::Delete, Err("Unknown topic config name: retention")),
        ];
        for (current, name, op, expected) in cases {
            match (apply(current, name, op.clone()), expected) {
                (Ok(outcome), Ok(expected)) => assert_eq!(outcome, *expected, "{name} {op:?}"),
                (Err(outcome), Err(expected)) => assert!(outcome.contains(expected), "{outcome}"),
                (outcome, expected) => panic!("{name} {op:?}: {outcome:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let configs = Scope::Topic
            .replace([
                ("min.compaction.lag.ms".to_owned(), "10".to_owned()),
                ("max.compaction.lag.ms".to_owned(), "9".to_owned()),
            ])
            .expect("each is valid");
        let error = Scope::Topic.check(&configs, &Layers::default(), &BrokerConfig::default()).expect_err("together");
        assert!(error.to_string().contains("min.compaction.lag.ms (10) > max.compaction.lag.ms (9)"), "{error}");
    }

    #[test]
    fn read_only_configs_cannot_be_set_while_the_broker_runs() {
        let error = Scope::Broker.replace([("num.partitions".to_owned(), "3".to_owned())]).expect_err("read-only");
        assert!(error.to_string().contains("read-only"), "{error}");
        Scope::Broker.replace([("log.retention.ms".to_owned(), "3".to_owned())]).expect("dynamic");
    }
}
