//! The assignor of share groups. Kafka's `SimpleAssignor` has the same goals: every partition to somebody, equally many
//! to everybody, as little movement as that allows. Where members are more than partitions a partition has several.
//!
//! Members that read the same topics share one pool of all their partitions; otherwise every topic is a pool of its own,
//! shared by those who read it. In a pool of P partitions and M members each partition gets ceil(M / P) members and no
//! member has more than one partition above another. Kafka tolerates a slight imbalance when a partition is left that
//! all members with room have already; here two members swap, which is always possible.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use crate::group::consumer::assign::{GroupSpec, Targets};

type Partition = (Uuid, i32);

/// A target for every member.
pub(super) fn assign(spec: &GroupSpec) -> Targets {
    let mut targets: Targets = spec.members.keys().map(|id| (id.clone(), BTreeMap::new())).collect();
    let partitions = |topic: &Uuid| {
        let topic = *topic;
        (0..spec.partitions.get(&topic).copied().unwrap_or(0)).map(move |partition| (topic, partition))
    };
    let pools: Vec<Vec<Partition>> = if spec.is_homogeneous() {
        vec![spec.partitions.keys().flat_map(partitions).collect()]
    } else {
        spec.partitions.keys().map(|topic| partitions(topic).collect()).collect()
    };
    for pool in pools {
        let Some((topic, _)) = pool.first() else { continue };
        let readers: Vec<&Arc<str>> =
            spec.members.iter().filter(|(_, member)| member.topics.contains(topic)).map(|(id, _)| id).collect();
        let load = |id: &Arc<str>| targets[id].values().map(BTreeSet::len).sum();
        let members = readers.iter().map(|id| (spec.members[*id].current.clone(), load(id))).collect();
        for (id, has) in readers.iter().zip(Pool::new(&pool, members).assign()) {
            let target = targets.get_mut(*id).expect("every member has a target");
            for at in has {
                let (topic, partition) = pool[at];
                target.entry(topic).or_default().insert(partition);
            }
        }
    }
    targets
}

/// Members and partitions by their places.
struct Pool {
    /// Most members of a partition, and in the end their number.
    sharing: usize,
    /// How many partitions each member shall have; together `sharing` times the partitions.
    quotas: Vec<usize>,
    /// What each member has.
    has: Vec<BTreeSet<usize>>,
    /// Who has each partition.
    holders: Vec<HashSet<usize>>,
}

impl Pool {
    /// With what members had before, and how much they have got from other pools.
    fn new(partitions: &[Partition], members: Vec<(BTreeMap<Uuid, BTreeSet<i32>>, usize)>) -> Self {
        let place: BTreeMap<Partition, usize> = partitions.iter().enumerate().map(|(at, p)| (*p, at)).collect();
        let before = |current: &BTreeMap<Uuid, BTreeSet<i32>>| -> BTreeSet<usize> {
            let pairs = current.iter().flat_map(|(topic, set)| set.iter().map(|partition| (*topic, *partition)));
            pairs.filter_map(|partition| place.get(&partition).copied()).collect()
        };
        let has: Vec<_> = members.iter().map(|(current, _)| before(current)).collect();
        let sharing = members.len().div_ceil(partitions.len());
        let total = sharing * partitions.len();
        let (least, more) = (total / members.len(), total % members.len());
        // One more goes to those who keep it, then to those who have least from elsewhere.
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&member| (Reverse(has[member].len().min(least + 1)), members[member].1, member));
        let mut quotas = vec![least; members.len()];
        order.into_iter().take(more).for_each(|member| quotas[member] += 1);
        let mut holders = vec![HashSet::new(); partitions.len()];
        for (member, has) in has.iter().enumerate() {
            has.iter().for_each(|&partition| _ = holders[partition].insert(member));
        }
        Pool { sharing, quotas, has, holders }
    }

    fn assign(mut self) -> Vec<BTreeSet<usize>> {
        self.unshare();
        self.unload();
        self.fill();
        self.swap();
        self.has
    }

    fn give(&mut self, member: usize, partition: usize) {
        self.has[member].insert(partition);
        self.holders[partition].insert(member);
    }

    fn take(&mut self, member: usize, partition: usize) {
        self.has[member].remove(&partition);
        self.holders[partition].remove(&member);
    }

    fn has_room(&self, member: usize) -> bool {
        self.has[member].len() < self.quotas[member]
    }

    /// Takes partitions with too many members from those who have most.
    fn unshare(&mut self) {
        for partition in 0..self.holders.len() {
            let excess = self.holders[partition].len().saturating_sub(self.sharing);
            if excess > 0 {
                let mut holders: Vec<usize> = self.holders[partition].iter().copied().collect();
                let over = |member: usize| self.has[member].len() as i64 - self.quotas[member] as i64;
                holders.sort_by_key(|&member| (Reverse(over(member)), Reverse(member)));
                holders.into_iter().take(excess).for_each(|member| self.take(member, partition));
            }
        }
    }

    /// Takes partitions from members with too many, the most shared first.
    fn unload(&mut self) {
        for member in 0..self.has.len() {
            let excess = self.has[member].len().saturating_sub(self.quotas[member]);
            if excess > 0 {
                let mut has: Vec<usize> = self.has[member].iter().copied().collect();
                has.sort_by_key(|&partition| (Reverse(self.holders[partition].len()), Reverse(partition)));
                has.into_iter().take(excess).for_each(|partition| self.take(member, partition));
            }
        }
    }

    /// Gives what is free to those with room, in turn.
    fn fill(&mut self) {
        let mut waiting: VecDeque<usize> = (0..self.has.len()).filter(|&member| self.has_room(member)).collect();
        for partition in 0..self.holders.len() {
            for _ in 0..waiting.len() {
                if self.holders[partition].len() >= self.sharing {
                    break;
                }
                let Some(member) = waiting.pop_front() else { return };
                if !self.holders[partition].contains(&member) {
                    self.give(member, partition);
                }
                if self.has_room(member) {
                    waiting.push_back(member);
                }
            }
        }
    }

    /// Where only members with room are left that have the partition already, one of them takes another from somebody who
    /// takes this one. There is such a pair: the other partition is full and so has a member that this one lacks.
    fn swap(&mut self) {
        let mut waiting: Vec<usize> = (0..self.has.len()).filter(|&member| self.has_room(member)).collect();
        for partition in 0..self.holders.len() {
            while self.holders[partition].len() < self.sharing {
                let Some(&member) = waiting.last() else { return };
                if self.holders[partition].contains(&member) {
                    let others = (0..self.holders.len()).filter(|&other| !self.holders[other].contains(&member));
                    let lacks = |other: usize| {
                        let mut lacking: Vec<usize> =
                            self.holders[other].difference(&self.holders[partition]).copied().collect();
                        lacking.sort_unstable();
                        lacking.first().map(|&from| (other, from))
                    };
                    let Some((other, from)) = others.into_iter().find_map(lacks) else { return };
                    self.take(from, other);
                    self.give(from, partition);
                    self.give(member, other);
                } else {
                    self.give(member, partition);
                }
                if !self.has_room(member) {
                    waiting.pop();
                }
            }
        }
    }
}
