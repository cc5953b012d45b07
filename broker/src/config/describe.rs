//! Effective configs with their sources, for DescribeConfigs and CreateTopics.

use std::collections::BTreeMap;

use super::{ConfigDef, Layers, Promise, Source, broker, find, group, topic};

/// One value of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The config's name at that source.
    pub name: &'static str,
    /// Its value there.
    pub value: String,
    /// Where it is set.
    pub source: Source,
}

/// A config of a resource.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its row.
    pub def: &'static ConfigDef,
    /// Every source that has a value, the deciding one first; never empty.
    pub synonyms: Vec<Synonym>,
}

impl Entry {
    /// The effective value.
    pub fn value(&self) -> &str {
        &self.synonyms[0].value
    }

    /// Where the effective value is set.
    pub fn source(&self) -> Source {
        self.synonyms[0].source
    }

    /// True when clients cannot set it.
    pub fn read_only(&self) -> bool {
        matches!(self.def.promise, Promise::ReadOnly)
    }
}

/// All configs of a topic.
pub fn topic(overrides: &BTreeMap<String, String>, layers: &Layers) -> Vec<Entry> {
    inheriting(topic::TABLE, Source::Topic, overrides, layers)
}

/// All configs of a group.
pub fn group(overrides: &BTreeMap<String, String>, layers: &Layers) -> Vec<Entry> {
    inheriting(group::TABLE, Source::Group, overrides, layers)
}

/// All configs of this broker.
pub fn broker(layers: &Layers) -> Vec<Entry> {
    broker::table().iter().map(|def| Entry { def, synonyms: broker_synonyms(def, layers) }).collect()
}

/// What was set for all brokers while running; as in Kafka nothing else is told of them.
pub fn cluster(layers: &Layers) -> Vec<Entry> {
    let mut entries = broker(layers);
    for entry in &mut entries {
        entry.synonyms.retain(|synonym| synonym.source == Source::DynamicDefaultBroker);
    }
    entries.retain(|entry| !entry.synonyms.is_empty());
    entries
}

fn inheriting(
    table: &'static [ConfigDef],
    own: Source,
    overrides: &BTreeMap<String, String>,
    layers: &Layers,
) -> Vec<Entry> {
    let entry = |def: &'static ConfigDef| {
        let set = overrides.get(def.name).map(|value| Synonym { name: def.name, value: value.clone(), source: own });
        let inherited = match find(broker::table(), def.synonym) {
            Some(synonym) => broker_synonyms(synonym, layers),
            None => vec![Synonym { name: def.name, value: def.default.to_owned(), source: Source::Default }],
        };
        Entry { def, synonyms: set.into_iter().chain(inherited).collect() }
    };
    table.iter().map(entry).collect()
}

fn broker_synonyms(def: &'static ConfigDef, layers: &Layers) -> Vec<Synonym> {
    layers.values(def).map(|(source, value)| Synonym { name: def.name, value, source }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn synonyms(entries: &[Entry], name: &str) -> Vec<(String, Source)> {
        let entry = entries.iter().find(|entry| entry.def.name == name).expect(name);
        entry.synonyms.iter().map(|synonym| (format!("{}={}", synonym.name, synonym.value), synonym.source)).collect()
    }

    #[test]
    fn every_source_is_told_the_deciding_one_first() {
        let layers = Layers {
            node: pairs(&[("log.retention.ms", "2")]),
            default: pairs(&[("log.retention.ms", "3")]),
            file: pairs(&[("log.retention.ms", "4"), ("num.partitions", "6")]),
        };
        let entries = topic(&pairs(&[("retention.ms", "1")]), &layers);
        let expected = [
            ("retention.ms=1".to_owned(), Source::Topic),
            ("log.retention.ms=2".to_owned(), Source::DynamicBroker),
            ("log.retention.ms=3".to_owned(), Source::DynamicDefaultBroker),
            ("log.retention.ms=4".to_owned(), Source::StaticBroker),
            ("log.retention.ms=604800000".to_owned(), Source::Default),
        ];
        assert_eq!(synonyms(&entries, "retention.ms"), expected);
        assert_eq!(synonyms(&broker(&layers), "log.retention.ms"), expected[1..]);
        assert_eq!(synonyms(&cluster(&layers), "log.retention.ms"), expected[2..3]);
        assert_eq!(cluster(&layers).len(), 1);
        assert_eq!(
            synonyms(&entries, "remote.storage.enable"),
            [("remote.storage.enable=false".to_owned(), Source::Default)]
        );
        let partitions = broker(&layers).into_iter().find(|entry| entry.def.name == "num.partitions").expect("a row");
        assert_eq!(
            (partitions.value(), partitions.source(), partitions.read_only()),
            ("6", Source::StaticBroker, true)
        );
    }
}
