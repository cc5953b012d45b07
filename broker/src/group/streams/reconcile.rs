//! One member's next step towards its target: give up before take up (Kafka's `CurrentAssignmentBuilder`).

use std::collections::BTreeSet;

use super::member::{Active, Member, Owned, Task, Tasks};
use crate::group::consumer::member::MemberState;

/// What a step depends on.
pub(super) struct Reconcile<'a> {
    /// Epoch of the target assignment.
    pub(super) target_epoch: i32,
    /// What the client says it has; none when it says nothing.
    pub(super) owned: Option<&'a Tasks>,
    /// True while another member processes the task, or has not given that up.
    pub(super) active_elsewhere: &'a dyn Fn(&Task) -> bool,
    /// True while another member of the same process has the task in any role: its state lies in one folder.
    pub(super) in_process: &'a dyn Fn(&Task) -> bool,
}

impl Reconcile<'_> {
    /// Takes the step.
    pub(super) fn apply(&self, member: &mut Member) {
        if member.is_reconciled_to(self.target_epoch) {
            return;
        }
        if member.state == MemberState::Unrevoked && self.still_owns(&member.revoking) {
            return;
        }
        let target = member.target.clone();
        let before = std::mem::take(&mut member.assigned);

        let (active, mut revoked): (Active, Active) =
            before.active.clone().into_iter().partition(|(task, _)| target.active.contains(task));
        let wanted = || target.active.iter().filter(|task| !active.contains_key(*task));
        let active_is_free = |task: &&Task| {
            !(self.active_elsewhere)(task) && (before.standby.contains(*task) || !(self.in_process)(task))
        };
        let gained: Vec<Task> = wanted().filter(active_is_free).cloned().collect();
        let mut waits = wanted().count() > gained.len();

        let mut standby: BTreeSet<Task> = before.standby.intersection(&target.standby).cloned().collect();
        // A standby that is to take over stays one until it may.
        standby.extend(before.standby.intersection(&target.active).cloned());
        let mut given_up: BTreeSet<Task> = before.standby.difference(&standby).cloned().collect();
        let mut followed = Vec::new();
        for task in target.standby.iter().filter(|task| !before.standby.contains(*task)) {
            if before.active.contains_key(task) {
                // The process goes on with its state in another role, in one step.
                standby.insert(task.clone());
            } else if (self.in_process)(task) {
                waits = true;
            } else {
                followed.push(task.clone());
            }
        }

        member.revoking = Owned { active: std::mem::take(&mut revoked), standby: std::mem::take(&mut given_up) };
        member.assigned = Owned { active, standby };
        if self.still_owns(&member.revoking) {
            member.state = MemberState::Unrevoked;
            return;
        }
        member.revoking = Owned::default();
        for task in gained {
            member.assigned.standby.remove(&task);
            member.assigned.active.insert(task, self.target_epoch);
        }
        member.assigned.standby.extend(followed);
        member.state = if waits { MemberState::Unreleased } else { MemberState::Stable };
        member.move_to_epoch(self.target_epoch);
    }

    /// A client that says nothing may still own everything.
    fn still_owns(&self, tasks: &Owned) -> bool {
        let Some(owned) = self.owned else { return !tasks.is_empty() };
        tasks.active.keys().any(|task| owned.active.contains(task))
            || tasks.standby.iter().any(|task| owned.standby.contains(task))
    }
}
