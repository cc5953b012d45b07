//! A member of a consumer group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::group::classic::Protocol;

/// Epoch of a static member that left but may come back (KIP-848).
pub(in crate::group) const LEFT_STATIC: i32 = -2;

/// Partitions by topic id.
pub(in crate::group) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic id with the epoch in which the member got each: a commit of that epoch or later is its own.
pub(in crate::group) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// How far a member is on its way to its target assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::group) enum MemberState {
    /// It has what it shall have, as of its epoch.
    #[default]
    Stable,
    /// It has yet to give up partitions.
    Unrevoked,
    /// It waits for partitions that others have yet to give up.
    Unreleased,
}

impl MemberState {
    /// What it is called in the log.
    pub(in crate::group) fn name(self) -> &'static str {
        match self {
            MemberState::Stable => "stable",
            MemberState::Unrevoked => "unrevoked",
            MemberState::Unreleased => "unreleased",
        }
    }

    /// The state of this name.
    pub(in crate::group) fn by_name(name: &str) -> Self {
        match name {
            "unrevoked" => MemberState::Unrevoked,
            "unreleased" => MemberState::Unreleased,
            _ => MemberState::Stable,
        }
    }
}

/// What a member brings along that speaks the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Classic {
    pub(in crate::group) session_timeout_ms: i32,
    pub(in crate::group) protocols: Vec<Protocol>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Member {
    pub(in crate::group) id: Arc<str>,
    pub(in crate::group) instance_id: Option<Arc<str>>,
    pub(in crate::group) rack_id: Option<String>,
    pub(in crate::group) client_id: String,
    pub(in crate::group) client_host: String,
    pub(in crate::group) rebalance_timeout_ms: i32,
    pub(in crate::group) topics: BTreeSet<String>,
    pub(in crate::group) regex: Option<String>,
    pub(in crate::group) assignor: Option<String>,
    pub(in crate::group) epoch: i32,
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) state: MemberState,
    pub(in crate::group) assigned: Owned,
    pub(in crate::group) revoking: Owned,
    /// Told to the member, but never yet reported by it: it may be about to take them up, whatever it reports now.
    /// Not written down: after a restart that is everything.
    pub(in crate::group) untaken: BTreeSet<(Uuid, i32)>,
    pub(in crate::group) target: Partitions,
    /// Set for members that speak the classic protocol.
    pub(in crate::group) classic: Option<Classic>,
}

impl Member {
    pub(in crate::group) fn new(id: Arc<str>) -> Self {
        Member {
            id,
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: -1,
            topics: BTreeSet::new(),
            regex: None,
            assignor: None,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
            untaken: BTreeSet::new(),
            target: Partitions::new(),
            classic: None,
        }
    }

    /// The regular expression, if it has one: an empty one is none.
    pub(in crate::group) fn regex(&self) -> Option<&str> {
        self.regex.as_deref().filter(|regex| !regex.is_empty())
    }

    pub(in crate::group) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    pub(in crate::group) fn move_to_epoch(&mut self, epoch: i32) {
        if self.epoch != epoch {
            self.previous_epoch = self.epoch;
            self.epoch = epoch;
        }
    }

    /// Epoch in which the member got the partition, while it has not given it up.
    pub(in crate::group) fn assignment_epoch(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let epoch = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        epoch(&self.assigned).or_else(|| epoch(&self.revoking))
    }

    /// Notes what the client reports to have.
    pub(in crate::group) fn report(&mut self, owned: &Partitions) {
        self.untaken.retain(|(topic, partition)| !owned.get(topic).is_some_and(|set| set.contains(partition)));
    }

    /// Everything that nobody else may have: assigned, or not yet given up.
    pub(in crate::group) fn held(&self) -> impl Iterator<Item = (Uuid, i32)> {
        let pairs = |(topic, partitions): (&Uuid, &BTreeMap<i32, i32>)| {
            let topic = *topic;
            partitions.keys().map(move |partition| (topic, *partition)).collect::<Vec<_>>()
        };
        self.assigned.iter().flat_map(pairs).chain(self.revoking.iter().flat_map(pairs))
    }

    /// The protocol answered in JoinGroup: the first one it speaks.
    pub(in crate::group) fn classic_protocol(&self) -> Option<&Protocol> {
        self.classic.as_ref()?.protocols.first()
    }
}

/// The partitions without their epochs.
pub(in crate::group) fn without_epochs(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}
