//! The uniform assignor for members that read different topics (Kafka's `UniformHeterogeneousAssignmentBuilder`): keep
//! what members have, hand out the rest to the least loaded, then move partitions from loaded to idle subscribers
//! topic by topic until no move helps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{GroupSpec, Targets};

/// Rounds of balancing. One settles most groups; each roughly halves what imbalance overlapping subscriptions leave.
const ROUNDS: usize = 16;

struct Builder<'a> {
    members: Vec<&'a Arc<str>>,
    load: Vec<usize>,
    /// Members by topic, in order.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// Owner of each partition.
    owners: BTreeMap<Uuid, Vec<Option<usize>>>,
}

pub(super) fn assign(spec: &GroupSpec) -> Targets {
    let mut builder = Builder::new(spec);
    // Topics whose subscribers have most to carry go first: there is least choice for them.
    let mut topics: Vec<Uuid> = builder.subscribers.keys().copied().collect();
    topics.sort_by(|a, b| {
        let weight = |t: &Uuid| (builder.owners[t].len(), builder.subscribers[t].len());
        let ((pa, sa), (pb, sb)) = (weight(a), weight(b));
        (pb * sa).cmp(&(pa * sb)).then(sa.cmp(&sb)).then(a.cmp(b))
    });
    for topic in &topics {
        builder.assign_free(*topic);
    }
    topics.retain(|topic| builder.subscribers[topic].len() > 1);
    for _ in 0..ROUNDS {
        let moved = topics.iter().filter(|topic| builder.balance(**topic)).count();
        if moved == 0 {
            break;
        }
    }
    builder.targets()
}

impl<'a> Builder<'a> {
    fn new(spec: &'a GroupSpec) -> Self {
        let mut builder = Builder {
            members: spec.members.keys().collect(),
            load: vec![0; spec.members.len()],
            subscribers: BTreeMap::new(),
            owners: BTreeMap::new(),
        };
        for (index, member) in spec.members.values().enumerate() {
            for topic in &member.topics {
                builder.subscribers.entry(*topic).or_default().push(index);
                let partitions = spec.partitions.get(topic).copied().unwrap_or(0);
                let slots = || vec![None; usize::try_from(partitions).unwrap_or(0)];
                builder.owners.entry(*topic).or_insert_with(slots);
            }
        }
        for (index, member) in spec.members.values().enumerate() {
            for (topic, partitions) in member.current.iter().filter(|(topic, _)| member.topics.contains(topic)) {
                for partition in partitions {
                    let slots = builder.owners.get_mut(topic);
                    let slot = slots.and_then(|slots| slots.get_mut(usize::try_from(*partition).ok()?));
                    if let Some(slot @ None) = slot {
                        *slot = Some(index);
                        builder.load[index] += 1;
                    }
                }
            }
        }
        builder
    }

    /// The subscribers of a topic, the least loaded first.
    fn by_load(&self, topic: Uuid) -> BTreeSet<(usize, usize)> {
        self.subscribers[&topic].iter().map(|member| (self.load[*member], *member)).collect()
    }

    fn assign_free(&mut self, topic: Uuid) {
        let mut by_load = self.by_load(topic);
        let slots = self.owners.get_mut(&topic).into_iter().flatten();
        for slot in slots.filter(|slot| slot.is_none()) {
            let Some((load, member)) = by_load.pop_first() else { return };
            *slot = Some(member);
            self.load[member] = load + 1;
            by_load.insert((load + 1, member));
        }
    }

    /// Moves partitions of one topic from its most to its least loaded subscribers. True when any moved.
    fn balance(&mut self, topic: Uuid) -> bool {
        let mut by_load = self.by_load(topic);
        let Some(slots) = self.owners.get_mut(&topic) else { return false };
        let mut held: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in slots.iter().enumerate() {
            held.entry(owner.unwrap_or(usize::MAX)).or_default().push(partition);
        }
        // Only members with partitions of this topic can give one up.
        let mut givers: BTreeSet<(usize, usize)> =
            by_load.iter().filter(|(_, member)| held.contains_key(member)).copied().collect();
        let mut moved = false;
        while let (Some(&(most, giver)), Some(&(least, taker))) = (givers.last(), by_load.first()) {
            if most <= least + 1 {
                break;
            }
            let Some(partition) = held.get_mut(&giver).and_then(Vec::pop) else {
                givers.remove(&(most, giver));
                continue;
            };
            slots[partition] = Some(taker);
            self.load[giver] -= 1;
            self.load[taker] += 1;
            by_load.remove(&(most, giver));
            by_load.insert((most - 1, giver));
            by_load.remove(&(least, taker));
            by_load.insert((least + 1, taker));
            givers.remove(&(most, giver));
            givers.insert((most - 1, giver));
            if givers.remove(&(least, taker)) {
                givers.insert((least + 1, taker));
            }
            moved = true;
        }
        moved
    }

    fn targets(self) -> Targets {
        let mut targets: Targets = self.members.iter().map(|id| ((*id).clone(), BTreeMap::new())).collect();
        for (topic, slots) in &self.owners {
            for (partition, owner) in (0i32..).zip(slots) {
                let Some(owner) = *owner else { continue };
                let target = targets.entry(self.members[owner].clone()).or_default();
                target.entry(*topic).or_default().insert(partition);
            }
        }
        targets
    }
}
