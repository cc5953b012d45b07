//! Kafka's `RangeAssignor`: each topic's partitions in ranges over its members in order; static members come first and
//! by instance id, so that a restart moves nothing.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{GroupSpec, MemberSpec, Targets};

struct Topic {
    partitions: i32,
    /// Partitions per member, rounded down.
    quota: i32,
    /// Members that get one more.
    extra: i32,
    next: i32,
}

pub(super) fn assign(spec: &GroupSpec) -> Targets {
    let mut subscribers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for topic in spec.members.values().flat_map(|member| &member.topics) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let topic = |(id, subscribers): (Uuid, i32)| {
        let partitions = spec.partitions.get(&id).copied().unwrap_or(0);
        (id, Topic { partitions, quota: partitions / subscribers, extra: partitions % subscribers, next: 0 })
    };
    let mut topics: BTreeMap<Uuid, Topic> = subscribers.into_iter().map(topic).collect();

    let mut members: Vec<_> = spec.members.iter().collect();
    members.sort_by_key(|(id, member): &(_, &MemberSpec)| {
        (member.instance_id.is_none(), member.instance_id.clone(), (*id).clone())
    });
    let mut targets = Targets::new();
    for (id, member) in members {
        let target = targets.entry(id.clone()).or_default();
        for topic_id in &member.topics {
            let Some(topic) = topics.get_mut(topic_id) else { continue };
            let mut quota = topic.quota;
            if topic.extra > 0 {
                topic.extra -= 1;
                quota += 1;
            }
            let end = (topic.next + quota).min(topic.partitions);
            if topic.next < end {
                target.insert(*topic_id, (topic.next..end).collect());
            }
            topic.next = end;
        }
    }
    targets
}
