//! The uniform assignor for members that all read the same topics (Kafka's `UniformHomogeneousAssignmentBuilder`):
//! exactly balanced, and nobody loses a partition that fits into its share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::{GroupSpec, Targets};

pub(super) fn assign(spec: &GroupSpec) -> Targets {
    let count = spec.members.len();
    let mut targets: Targets = spec.members.keys().map(|id| (id.clone(), BTreeMap::new())).collect();
    let Some(topics) = spec.members.values().next().map(|member| &member.topics) else { return targets };

    // Who has what now, as far as it still exists; a partition counts for the first who claims it.
    let mut free: BTreeMap<Uuid, Vec<bool>> = BTreeMap::new();
    for topic in topics {
        let partitions = spec.partitions.get(topic).copied().unwrap_or(0);
        free.insert(*topic, vec![true; usize::try_from(partitions).unwrap_or(0)]);
    }
    let total: usize = free.values().map(Vec::len).sum();
    let quota = total / count;
    let mut extra = total % count;

    let mut unfilled: Vec<(Arc<str>, usize)> = Vec::new();
    for (index, (id, member)) in spec.members.iter().enumerate() {
        let mut room = quota + usize::from(extra > 0);
        let mut has_extra = extra > 0;
        for (topic, partitions) in &member.current {
            let Some(free) = free.get_mut(topic) else { continue };
            for partition in partitions {
                let Some(slot) = usize::try_from(*partition).ok().and_then(|p| free.get_mut(p)) else { continue };
                if room > 0 && *slot {
                    room -= 1;
                    *slot = false;
                    targets.entry(id.clone()).or_default().entry(*topic).or_default().insert(*partition);
                }
            }
        }
        // An extra partition that this member cannot fill from its own goes to one who can, while there are enough
        // members left to take it.
        if room > 0 && has_extra && count - index > extra {
            room -= 1;
            has_extra = false;
        }
        if room > 0 {
            unfilled.push((id.clone(), room));
        }
        extra -= usize::from(has_extra);
    }

    let mut unassigned: VecDeque<(Uuid, i32)> = VecDeque::new();
    for (topic, slots) in &free {
        unassigned.extend((0i32..).zip(slots).filter(|(_, free)| **free).map(|(partition, _)| (*topic, partition)));
    }
    for (id, room) in unfilled {
        let target = targets.entry(id).or_default();
        for (topic, partition) in unassigned.drain(..room.min(unassigned.len())) {
            target.entry(topic).or_default().insert(partition);
        }
    }
    targets
}
