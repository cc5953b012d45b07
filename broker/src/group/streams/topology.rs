//! The processing graph of an application, as its members bring it along.

use std::collections::{BTreeMap, BTreeSet};

use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_heartbeat::{self as wire, KeyValue, TopicInfo};
use serde::{Deserialize, Serialize};

use crate::group::context::text;
use crate::group::error::Refusal;
use crate::topics::name;

/// A topology: subtopologies by id, all of which read something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::group) struct Topology {
    pub(in crate::group) epoch: i32,
    pub(in crate::group) subtopologies: BTreeMap<String, Subtopology>,
}

/// A part whose tasks read the same topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::group) struct Subtopology {
    pub(in crate::group) sources: BTreeSet<String>,
    /// Repartition topics that it writes.
    pub(in crate::group) sinks: BTreeSet<String>,
    /// Repartition topics that it reads.
    pub(in crate::group) repartitions: BTreeMap<String, InternalTopic>,
    /// Changelogs of its stores.
    pub(in crate::group) changelogs: BTreeMap<String, InternalTopic>,
    /// Topics that have as many partitions as one another.
    pub(in crate::group) copartitions: Vec<BTreeSet<String>>,
}

/// What a topic that is made for the application shall be like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::group) struct InternalTopic {
    /// 0 where it follows from other topics.
    pub(in crate::group) partitions: i32,
    /// 0 for the default.
    pub(in crate::group) replication_factor: i16,
    pub(in crate::group) configs: BTreeMap<String, String>,
}

impl Subtopology {
    /// Everything that its tasks read.
    pub(in crate::group) fn reads(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().chain(self.repartitions.keys()).map(String::as_str)
    }

    /// True where a task has a state, which a standby can follow.
    pub(in crate::group) fn is_stateful(&self) -> bool {
        !self.changelogs.is_empty()
    }
}

impl Topology {
    /// Every topic that the application needs to be there.
    pub(in crate::group) fn required_topics(&self) -> BTreeSet<&str> {
        self.subtopologies
            .values()
            .flat_map(|part| part.reads().chain(part.changelogs.keys().map(String::as_str)))
            .collect()
    }

    /// Takes over what a member sent. What Kafka refuses is refused with its words.
    pub(in crate::group) fn from_wire(topology: &wire::Topology) -> Result<Self, Refusal> {
        let mut subtopologies = BTreeMap::new();
        for part in &topology.subtopologies {
            let id = part.subtopology_id.to_string();
            if subtopologies.insert(id, subtopology(part)?).is_some() {
                return Err(invalid(format!("Subtopology {} is there twice.", &*part.subtopology_id)));
            }
        }
        if topology.epoch < 0 {
            return Err(Refusal::new(ErrorCode::StreamsInvalidTopologyEpoch, "The topology's epoch is negative."));
        }
        Ok(Topology { epoch: topology.epoch, subtopologies })
    }
}

fn subtopology(part: &wire::Subtopology) -> Result<Subtopology, Refusal> {
    if !part.source_topic_regex.is_empty() {
        let message = "Regular expressions for source topics are not supported yet.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    for topic in &part.state_changelog_topics {
        if topic.partitions != 0 {
            return Err(invalid(format!(
                "Changelog topic {} must have an undefined partition count, but it is set to {}.",
                &*topic.name, topic.partitions
            )));
        }
    }
    let reads = part.source_topics.len() + part.repartition_source_topics.len();
    if reads == 0 {
        return Err(invalid(format!("No source topics found for subtopology {}", &*part.subtopology_id)));
    }
    let internal = part.repartition_source_topics.iter().chain(&part.state_changelog_topics).map(|topic| &topic.name);
    for topic in part.source_topics.iter().chain(&part.repartition_sink_topics).chain(internal) {
        name::check(topic).map_err(|_| invalid(format!("Topic names {} are not valid topic names.", &**topic)))?;
    }
    let member = |index: i16, names: &mut dyn Iterator<Item = String>| {
        let found = usize::try_from(index).ok().and_then(|index| names.nth(index));
        found.ok_or_else(|| invalid(format!("A copartition group names topic {index}, which is not there.")))
    };
    let mut copartitions = Vec::with_capacity(part.copartition_groups.len());
    for group in &part.copartition_groups {
        let mut topics = BTreeSet::new();
        for index in &group.source_topics {
            topics.insert(member(*index, &mut part.source_topics.iter().map(|topic| topic.to_string()))?);
        }
        for index in &group.repartition_source_topics {
            let mut names = part.repartition_source_topics.iter().map(|topic| topic.name.to_string());
            topics.insert(member(*index, &mut names)?);
        }
        copartitions.push(topics);
    }
    Ok(Subtopology {
        sources: part.source_topics.iter().map(|topic| topic.to_string()).collect(),
        sinks: part.repartition_sink_topics.iter().map(|topic| topic.to_string()).collect(),
        repartitions: part.repartition_source_topics.iter().map(internal_topic).collect(),
        changelogs: part.state_changelog_topics.iter().map(internal_topic).collect(),
        copartitions,
    })
}

fn internal_topic(topic: &TopicInfo) -> (String, InternalTopic) {
    let configs = topic.topic_configs.iter().map(|config| (config.key.to_string(), config.value.to_string())).collect();
    let internal =
        InternalTopic { partitions: topic.partitions, replication_factor: topic.replication_factor, configs };
    (topic.name.to_string(), internal)
}

/// The topic as messages have it.
pub(super) fn topic_info(name: &str, topic: &InternalTopic) -> TopicInfo {
    let config = |(key, value): (&String, &String)| KeyValue { key: text(key), value: text(value) };
    TopicInfo {
        name: text(name),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        topic_configs: topic.configs.iter().map(config).collect(),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::StreamsInvalidTopology, message)
}
