//! Who shall have which task: as Kafka's sticky assignor, tasks stay where they are as far as an even load allows, and go
//! first to who has followed them as a standby.
//!
//! Every task is processed by exactly one member, and no member has more than one task above another. Standbys follow the
//! tasks that have a state, each in a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::{Task, Tasks};

/// What is known of a member.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberSpec {
    pub(super) process_id: String,
    /// Its last target.
    pub(super) current: Tasks,
    /// Tasks of which it says it has state.
    pub(super) has_state: BTreeSet<Task>,
}

/// What is to be assigned to whom.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupSpec {
    pub(super) members: BTreeMap<Arc<str>, MemberSpec>,
    /// Subtopologies: their number of tasks, and whether these have a state.
    pub(super) subtopologies: BTreeMap<String, (i32, bool)>,
    pub(super) standby_replicas: i32,
}

pub(super) type Targets = BTreeMap<Arc<str>, Tasks>;

/// A target for every member.
pub(super) fn assign(spec: &GroupSpec) -> Targets {
    let members: Vec<(&Arc<str>, &MemberSpec)> = spec.members.iter().collect();
    if members.is_empty() {
        return Targets::new();
    }
    let mut processes: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, member) in &members {
        let next = processes.len();
        processes.entry(&member.process_id).or_insert(next);
    }
    let mut state = Assigning {
        process_of: members.iter().map(|(_, member)| processes[&*member.process_id]).collect(),
        capacity: vec![0; processes.len()],
        process_load: vec![0; processes.len()],
        process_tasks: vec![BTreeSet::new(); processes.len()],
        targets: vec![Tasks::default(); members.len()],
        members: members.iter().map(|(_, member)| *member).collect(),
    };
    for process in &state.process_of {
        state.capacity[*process] += 1;
    }
    state.active(tasks(spec, false));
    state.standby(tasks(spec, true), spec.standby_replicas);
    members.iter().map(|(id, _)| (*id).clone()).zip(state.targets).collect()
}

/// All tasks, or those with a state. Tasks of one partition follow one another, so that each member's are of few.
fn tasks(spec: &GroupSpec, stateful: bool) -> Vec<Task> {
    let of = |(id, (count, has_state)): (&String, &(i32, bool))| {
        let count = if stateful && !has_state { 0 } else { *count };
        (0..count).map(|partition| (id.clone(), partition)).collect::<Vec<_>>()
    };
    let mut tasks: Vec<Task> = spec.subtopologies.iter().flat_map(of).collect();
    tasks.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    tasks
}

/// Members and processes by their places.
struct Assigning<'a> {
    members: Vec<&'a MemberSpec>,
    process_of: Vec<usize>,
    /// Members of each process.
    capacity: Vec<usize>,
    process_load: Vec<usize>,
    process_tasks: Vec<BTreeSet<Task>>,
    targets: Vec<Tasks>,
}

impl Assigning<'_> {
    fn active(&mut self, mut tasks: Vec<Task>) {
        let mut quota = Quota::new(tasks.len(), self.members.len());
        let mut had: BTreeMap<&Task, usize> = BTreeMap::new();
        let mut followed: BTreeMap<&Task, Vec<usize>> = BTreeMap::new();
        for (at, member) in self.members.iter().copied().enumerate() {
            had.extend(member.current.active.iter().map(|task| (task, at)));
            for task in member.current.standby.union(&member.has_state) {
                followed.entry(task).or_default().push(at);
            }
        }
        tasks.retain(|task| match had.get(task).filter(|at| quota.take(self.targets[**at].active.len())) {
            Some(at) => {
                self.give(*at, task, true);
                false
            }
            None => true,
        });
        tasks.retain(|task| {
            let members = followed.get(task).into_iter().flatten().copied();
            let least = members.min_by_key(|at| self.targets[*at].active.len());
            match least.filter(|at| quota.take(self.targets[*at].active.len())) {
                Some(at) => {
                    self.give(at, task, true);
                    false
                }
                None => true,
            }
        });
        tasks.sort();
        for task in &tasks {
            let open = (0..self.members.len()).filter(|at| quota.allows(self.targets[*at].active.len()));
            let Some(at) = self.least_loaded(open) else { continue };
            quota.take(self.targets[at].active.len());
            self.give(at, task, true);
        }
    }

    fn standby(&mut self, tasks: Vec<Task>, replicas: i32) {
        let replicas = usize::try_from(replicas).unwrap_or(0);
        let active: usize = self.process_load.iter().sum();
        let most = (active + tasks.len() * replicas).div_ceil(self.members.len());
        for replica in 0..replicas {
            for task in &tasks {
                let free = |at: &usize| !self.process_tasks[self.process_of[*at]].contains(task);
                let open: Vec<usize> = (0..self.members.len()).filter(free).collect();
                let knows = |at: &usize| {
                    let member = self.members[*at];
                    member.current.active.contains(task)
                        || member.current.standby.contains(task)
                        || member.has_state.contains(task)
                };
                let has_room = |at: &usize| self.load(*at) < most;
                let known = self.least_loaded(open.iter().copied().filter(|at| knows(at) && has_room(at)));
                match known.or_else(|| self.least_loaded(open.into_iter())) {
                    Some(at) => self.give(at, task, false),
                    None => tracing::debug!(?task, replica, "no process is left for a standby"),
                }
            }
        }
    }

    fn load(&self, at: usize) -> usize {
        self.targets[at].active.len() + self.targets[at].standby.len()
    }

    /// The member with the fewest tasks in the process with the fewest per member.
    fn least_loaded(&self, members: impl Iterator<Item = usize>) -> Option<usize> {
        members.min_by(|a, b| {
            let per_member = |at: usize, other: usize| {
                self.process_load[self.process_of[at]] * self.capacity[self.process_of[other]]
            };
            per_member(*a, *b).cmp(&per_member(*b, *a)).then(self.load(*a).cmp(&self.load(*b))).then(a.cmp(b))
        })
    }

    fn give(&mut self, at: usize, task: &Task, active: bool) {
        let process = self.process_of[at];
        self.process_load[process] += 1;
        self.process_tasks[process].insert(task.clone());
        let target = &mut self.targets[at];
        if active {
            target.active.insert(task.clone())
        } else {
            target.standby.insert(task.clone())
        };
    }
}

/// How many active tasks a member may have: as many as all others, and some of them one more.
struct Quota {
    each: usize,
    /// How many members may have one more.
    more: usize,
}

impl Quota {
    fn new(tasks: usize, members: usize) -> Self {
        Quota { each: tasks / members, more: tasks % members }
    }

    fn allows(&self, has: usize) -> bool {
        has < self.each || has == self.each && self.more > 0
    }

    /// Counts one more task for a member that has so many.
    fn take(&mut self, has: usize) -> bool {
        let allowed = self.allows(has);
        if allowed && has == self.each {
            self.more -= 1;
        }
        allowed
    }
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
