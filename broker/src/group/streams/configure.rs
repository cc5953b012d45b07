//! A topology over the topics that there are: how many tasks it has, and which topics have to be made for it. Kafka's
//! `InternalTopicManager`.

use std::collections::{BTreeMap, BTreeSet};

use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_heartbeat::StatusCode;

use super::topology::{InternalTopic, Topology};
use crate::group::error::Refusal;
use crate::group::topics::TopicImage;

/// What has to be done before the application can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Problem {
    pub(in crate::group) status: StatusCode,
    pub(in crate::group) detail: String,
}

/// A topology whose source topics are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Configured {
    /// Tasks by subtopology; none before the source topics are there.
    pub(in crate::group) tasks: Option<BTreeMap<String, i32>>,
    /// Partitions of the internal topics.
    pub(in crate::group) internal: BTreeMap<String, i32>,
    /// Internal topics that are not there, with their partitions.
    pub(in crate::group) missing: BTreeMap<String, InternalTopic>,
    pub(in crate::group) problem: Option<Problem>,
}

impl Configured {
    /// True when tasks can be given out.
    pub(in crate::group) fn is_ready(&self) -> bool {
        self.problem.is_none()
    }
}

/// Looks at the topics. A topology that no topics could make right is refused.
pub(in crate::group) fn configure(topology: &Topology, topics: &dyn TopicImage) -> Result<Configured, Refusal> {
    let mut counts = Counts { topology, topics, decided: BTreeMap::new() };
    match counts.decide() {
        Ok(configured) => Ok(configured),
        Err(Failure::Problem(problem)) => Ok(Configured { problem: Some(problem), ..Configured::default() }),
        Err(Failure::Invalid(message)) => Err(Refusal::new(ErrorCode::StreamsInvalidTopology, message)),
    }
}

enum Failure {
    Problem(Problem),
    Invalid(String),
}

fn incorrect(detail: String) -> Failure {
    Failure::Problem(Problem { status: StatusCode::IncorrectlyPartitionedTopics, detail })
}

struct Counts<'a> {
    topology: &'a Topology,
    topics: &'a dyn TopicImage,
    /// Partitions of internal topics, as far as they are known.
    decided: BTreeMap<String, i32>,
}

impl Counts<'_> {
    fn decide(&mut self) -> Result<Configured, Failure> {
        self.check_sources()?;
        self.repartitions()?;
        for part in self.topology.subtopologies.values() {
            for group in &part.copartitions {
                self.copartition(group)?;
            }
        }
        let mut tasks = BTreeMap::new();
        for (id, part) in &self.topology.subtopologies {
            let count = part.reads().filter_map(|topic| self.partitions(topic)).max();
            let count =
                count.ok_or_else(|| Failure::Invalid(format!("No source topics found for subtopology {id}")))?;
            tasks.insert(id.clone(), count);
            self.decided.extend(part.changelogs.keys().map(|topic| (topic.clone(), count)));
        }
        let missing = self.missing()?;
        let problem = (!missing.is_empty()).then(|| Problem {
            status: StatusCode::MissingInternalTopics,
            detail: format!("Internal topics are missing: {}", list(missing.keys())),
        });
        let internal = self.internal().map(|(name, topic)| (name.clone(), self.wanted(name, topic))).collect();
        Ok(Configured { tasks: Some(tasks), internal, missing, problem })
    }

    fn existing(&self, topic: &str) -> Option<i32> {
        self.topics.partitions(self.topics.id(topic)?)
    }

    fn partitions(&self, topic: &str) -> Option<i32> {
        self.existing(topic).or_else(|| self.decided.get(topic).copied())
    }

    fn internal(&self) -> impl Iterator<Item = (&String, &InternalTopic)> {
        self.topology.subtopologies.values().flat_map(|part| part.repartitions.iter().chain(&part.changelogs))
    }

    fn wanted(&self, name: &str, topic: &InternalTopic) -> i32 {
        match topic.partitions {
            0 => self.decided.get(name).copied().unwrap_or(0),
            fixed => fixed,
        }
    }

    fn check_sources(&self) -> Result<(), Failure> {
        let sources = self.topology.subtopologies.values().flat_map(|part| &part.sources);
        let missing: BTreeSet<_> = sources.filter(|topic| self.existing(topic).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let detail = format!("Source topics {} are missing.", list(missing));
        Err(Failure::Problem(Problem { status: StatusCode::MissingSourceTopics, detail }))
    }

    /// A repartition topic has as many partitions as the largest topic that is read by who writes it, which may be a
    /// repartition topic itself.
    fn repartitions(&mut self) -> Result<(), Failure> {
        let topology = self.topology;
        let read = || topology.subtopologies.values().flat_map(|part| &part.repartitions);
        let fixed = read().filter(|(_, topic)| topic.partitions != 0);
        let mut counts: BTreeMap<String, i32> = fixed.map(|(name, topic)| (name.clone(), topic.partitions)).collect();
        loop {
            let before = counts.len();
            let mut open = false;
            for part in topology.subtopologies.values() {
                for sink in part.sinks.iter().filter(|sink| read().any(|(name, _)| name == *sink)) {
                    if counts.contains_key(sink) {
                        continue;
                    }
                    let internal = part.repartitions.keys().filter_map(|topic| counts.get(topic).copied());
                    let external = part.sources.iter().filter_map(|topic| self.existing(topic));
                    match internal.chain(external).max() {
                        Some(count) => drop(counts.insert(sink.clone(), count)),
                        None => open = true,
                    }
                }
            }
            if !open {
                break;
            }
            if counts.len() == before {
                return Err(Failure::Invalid(
                    "Failed to compute number of partitions for all repartition topics. There may be loops in the \
                     topology that cannot be resolved."
                        .to_owned(),
                ));
            }
        }
        if read().any(|(name, _)| !counts.contains_key(name)) {
            return Err(Failure::Invalid(
                "Failed to compute number of partitions for all repartition topics, because a repartition source topic \
                 is never used as a sink topic."
                    .to_owned(),
            ));
        }
        self.decided = counts;
        Ok(())
    }

    /// Gives the repartition topics of a copartition group the partitions of the others, which must agree.
    fn copartition<'g>(&mut self, group: &'g BTreeSet<String>) -> Result<(), Failure> {
        let read: BTreeMap<&String, &InternalTopic> =
            self.topology.subtopologies.values().flat_map(|part| &part.repartitions).collect();
        let (repartition, external): (Vec<_>, Vec<_>) = group.iter().partition(|topic| read.contains_key(topic));
        let counted = |topics: Vec<&'g String>| -> BTreeMap<&'g String, i32> {
            topics.into_iter().map(|topic| (topic, self.partitions(topic).unwrap_or(0))).collect()
        };
        let (repartition, external) = (counted(repartition), counted(external));
        let is_fixed = |topic: &String| read.get(topic).is_some_and(|topic| topic.partitions != 0);
        let fixed: BTreeMap<_, _> = repartition.iter().filter(|(topic, _)| is_fixed(topic)).collect();
        let wanted = if let Some(wanted) = external.values().next() {
            if external.values().any(|count| count != wanted) {
                return Err(incorrect(format!(
                    "Following topics do not have the same number of partitions: [{external:?}]"
                )));
            }
            *wanted
        } else if let Some(wanted) = fixed.values().next() {
            if fixed.values().any(|count| count != wanted) {
                return Err(incorrect(format!(
                    "Following topics do not have the same number of partitions: [{repartition:?}]"
                )));
            }
            **wanted
        } else {
            repartition.values().copied().max().unwrap_or(0)
        };
        let mut decided = Vec::new();
        for (topic, count) in &repartition {
            if is_fixed(topic) && *count != wanted {
                return Err(incorrect(format!(
                    "Number of partitions [{count}] of repartition topic [{topic}] doesn't match number of partitions \
                     [{wanted}] of the source topic."
                )));
            }
            decided.push(((*topic).clone(), wanted));
        }
        self.decided.extend(decided);
        Ok(())
    }

    fn missing(&self) -> Result<BTreeMap<String, InternalTopic>, Failure> {
        let mut missing = BTreeMap::new();
        for (name, topic) in self.internal() {
            let partitions = self.wanted(name, topic);
            match self.existing(name) {
                None => drop(missing.insert(name.clone(), InternalTopic { partitions, ..topic.clone() })),
                Some(found) if found != partitions => {
                    return Err(incorrect(format!(
                        "Existing topic {name} has different number of partitions: expected {partitions}, found {found}"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(missing)
    }
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    names.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
}
