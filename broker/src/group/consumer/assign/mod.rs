//! Server-side assignors (KIP-848). Each computes, from members, their subscriptions and their last targets, who shall
//! have what.

mod heterogeneous;
mod homogeneous;
mod range;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::member::Partitions;

/// What an assignor knows of a member.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct MemberSpec {
    pub(in crate::group) instance_id: Option<Arc<str>>,
    /// Topics it reads; all of them exist.
    pub(in crate::group) topics: BTreeSet<Uuid>,
    /// Its last target.
    pub(in crate::group) current: Partitions,
}

/// What an assignor works on.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct GroupSpec {
    pub(in crate::group) members: BTreeMap<Arc<str>, MemberSpec>,
    /// Partition counts of every subscribed topic.
    pub(in crate::group) partitions: BTreeMap<Uuid, i32>,
}

impl GroupSpec {
    /// True when all members read the same topics.
    pub(in crate::group) fn is_homogeneous(&self) -> bool {
        let mut members = self.members.values();
        let first = members.next().map(|member| &member.topics);
        members.all(|member| Some(&member.topics) == first)
    }
}

pub(in crate::group) type Targets = BTreeMap<Arc<str>, Partitions>;

/// The assignors, the default first (`group.consumer.assignors`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::group) enum Assignor {
    /// Balanced to one partition, moving as few as it can.
    #[default]
    Uniform,
    /// Ranges of each topic, so that equal partitions of co-partitioned topics meet.
    Range,
}

impl Assignor {
    pub(in crate::group) const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    pub(in crate::group) fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub(in crate::group) fn by_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// A target for every member.
    pub(in crate::group) fn assign(self, spec: &GroupSpec) -> Targets {
        match self {
            Assignor::Range => range::assign(spec),
            Assignor::Uniform if spec.is_homogeneous() => homogeneous::assign(spec),
            Assignor::Uniform => heterogeneous::assign(spec),
        }
    }
}
