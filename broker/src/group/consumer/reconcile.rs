//! One member's next step towards its target: revoke before assign (Kafka's `CurrentAssignmentBuilder`).

use std::collections::BTreeSet;

use uuid::Uuid;

use super::member::{Member, MemberState, Owned, Partitions};

/// What a step depends on.
pub(in crate::group) struct Reconcile<'a> {
    /// Epoch of the target assignment.
    pub(in crate::group) target_epoch: i32,
    /// Ids of the topics that the member is subscribed to.
    pub(in crate::group) subscribed: &'a BTreeSet<Uuid>,
    /// The subscription changed with this very request.
    pub(in crate::group) subscription_changed: bool,
    /// What the client says it has; None when it says nothing.
    pub(in crate::group) owned: Option<&'a Partitions>,
    /// The client is not sure of what it was told last (KIP-848's full request): it may not know of a revocation yet.
    pub(in crate::group) unsure: bool,
    /// True when a member other than this one holds the partition.
    pub(in crate::group) held_by_other: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Reconcile<'_> {
    /// Takes the step.
    pub(in crate::group) fn apply(&self, member: &mut Member) {
        if !self.subscription_changed && member.is_reconciled_to(self.target_epoch) {
            return;
        }
        match member.state {
            MemberState::Stable if member.epoch != self.target_epoch => self.advance(member),
            MemberState::Stable => self.drop_unsubscribed(member),
            MemberState::Unrevoked if self.still_owns(&member.revoking, self.unsure.then_some(&member.untaken)) => {
                if self.subscription_changed {
                    self.drop_unsubscribed(member);
                }
            }
            MemberState::Unrevoked | MemberState::Unreleased => self.advance(member),
        }
    }

    /// A client that says nothing may still own everything, and one that has not taken up what it was told, that.
    fn still_owns(&self, partitions: &Owned, untaken: Option<&BTreeSet<(Uuid, i32)>>) -> bool {
        let Some(owned) = self.owned else { return !partitions.is_empty() };
        let owns = |topic: &Uuid, partition: &i32| {
            owned.get(topic).is_some_and(|set| set.contains(partition))
                || untaken.is_some_and(|untaken| untaken.contains(&(*topic, *partition)))
        };
        partitions.iter().any(|(topic, set)| set.keys().any(|partition| owns(topic, partition)))
    }

    /// Takes away topics that are no longer subscribed to, without waiting for a new target.
    fn drop_unsubscribed(&self, member: &mut Member) {
        let dropped: Vec<Uuid> =
            member.assigned.keys().filter(|topic| !self.subscribed.contains(topic)).copied().collect();
        if dropped.is_empty() {
            return;
        }
        let mut revoking = member.revoking.clone();
        for topic in dropped {
            let partitions = member.assigned.remove(&topic).unwrap_or_default();
            revoking.entry(topic).or_default().extend(partitions);
        }
        if self.still_owns(&revoking, Some(&member.untaken)) {
            member.state = MemberState::Unrevoked;
            member.revoking = revoking;
        }
    }

    fn advance(&self, member: &mut Member) {
        let mut kept = Owned::new();
        let mut revoking = Owned::new();
        let mut gained: Vec<(Uuid, i32)> = Vec::new();
        let mut unreleased = false;
        let topics: BTreeSet<Uuid> = member.target.keys().chain(member.assigned.keys()).copied().collect();
        let none = BTreeSet::new();
        for topic in topics {
            let target = if self.subscribed.contains(&topic) { member.target.get(&topic) } else { None };
            let target = target.unwrap_or(&none);
            let current = member.assigned.remove(&topic).unwrap_or_default();
            for partition in target.iter().filter(|partition| !current.contains_key(partition)) {
                // What it is giving up itself comes back to it at once.
                if (self.held_by_other)(topic, *partition) {
                    unreleased = true;
                } else {
                    gained.push((topic, *partition));
                }
            }
            for (partition, epoch) in current {
                let into = if target.contains(&partition) { &mut kept } else { &mut revoking };
                into.entry(topic).or_default().insert(partition, epoch);
            }
        }
        member.assigned = kept;
        // The report was made before the client could know of what is revoked right now.
        if self.still_owns(&revoking, Some(&member.untaken)) {
            member.state = MemberState::Unrevoked;
            member.revoking = revoking;
            return;
        }
        member.revoking = Owned::new();
        member
            .untaken
            .retain(|(topic, partition)| member.assigned.get(topic).is_some_and(|set| set.contains_key(partition)));
        for (topic, partition) in gained {
            member.untaken.insert((topic, partition));
            member.assigned.entry(topic).or_default().insert(partition, self.target_epoch);
        }
        member.state = if unreleased { MemberState::Unreleased } else { MemberState::Stable };
        member.move_to_epoch(self.target_epoch);
    }
}
