use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic(n: u32) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

/// Members with the topics they read; partition counts by topic.
fn spec(members: &[(&str, &[u32])], partitions: &[i32]) -> GroupSpec {
    let member = |(id, topics): &(&str, &[u32])| {
        let spec = MemberSpec { topics: topics.iter().map(|t| topic(*t)).collect(), ..MemberSpec::default() };
        (Arc::from(*id), spec)
    };
    GroupSpec {
        members: members.iter().map(member).collect(),
        partitions: (0..).zip(partitions).map(|(n, count)| (topic(n), *count)).collect(),
    }
}

fn apply(spec: &mut GroupSpec, targets: &Targets) {
    for (id, member) in &mut spec.members {
        member.current = targets[id].clone();
    }
}

fn load(target: &Partitions) -> usize {
    target.values().map(BTreeSet::len).sum()
}

fn owners(targets: &Targets) -> BTreeMap<(Uuid, i32), Vec<Arc<str>>> {
    let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (id, target) in targets {
        for (topic, partitions) in target {
            partitions.iter().for_each(|p| owners.entry((*topic, *p)).or_default().push(id.clone()));
        }
    }
    owners
}

/// Every partition that somebody reads belongs to exactly one member, and one that reads it.
fn check_complete(spec: &GroupSpec, targets: &Targets) {
    let owners = owners(targets);
    for (topic, count) in &spec.partitions {
        let read = spec.members.values().any(|member| member.topics.contains(topic));
        for partition in 0..*count {
            let found = owners.get(&(*topic, partition)).map_or(0, Vec::len);
            assert_eq!(found, usize::from(read), "{topic} {partition} in {targets:?}");
        }
    }
    for ((topic, partition), ids) in owners {
        assert!(spec.members[&ids[0]].topics.contains(&topic), "{} does not read {topic}", ids[0]);
        assert!(partition < spec.partitions[&topic]);
    }
    assert_eq!(targets.len(), spec.members.len());
}

fn moved(before: &Targets, after: &Targets) -> usize {
    let (before, after) = (owners(before), owners(after));
    after.iter().filter(|(partition, owner)| before.get(*partition).is_some_and(|old| old != *owner)).count()
}

#[test]
fn ranges_are_contiguous_and_meet_across_topics() {
    let cases: [(&[i32], [&[i32]; 3]); 4] = [
        (&[3], [&[0], &[1], &[2]]),
        (&[4], [&[0, 1], &[2], &[3]]),
        (&[2], [&[0], &[1], &[]]),
        (&[7], [&[0, 1, 2], &[3, 4], &[5, 6]]),
    ];
    for (partitions, expected) in cases {
        // Two topics of equal size: equal partitions go to the same member.
        let partitions = [partitions[0], partitions[0]];
        let targets = Assignor::Range.assign(&spec(&[("a", &[0, 1]), ("b", &[0, 1]), ("c", &[0, 1])], &partitions));
        for (id, expected) in ["a", "b", "c"].iter().zip(expected) {
            for n in [0, 1] {
                let got: Vec<i32> = targets[*id].get(&topic(n)).into_iter().flatten().copied().collect();
                assert_eq!(got, expected, "{id} of {partitions:?}");
            }
        }
    }
}

#[test]
fn static_members_come_first_in_ranges_whatever_their_ids() {
    let mut group = spec(&[("z", &[0]), ("a", &[0])], &[2]);
    group.members.get_mut("z").expect("there").instance_id = Some("i".into());
    let targets = Assignor::Range.assign(&group);
    assert_eq!(targets["z"][&topic(0)], BTreeSet::from([0]));
}

#[test]
fn a_member_that_joins_takes_its_share_and_no_more() {
    let mut group = spec(&[("a", &[0, 1]), ("b", &[0, 1])], &[4, 4]);
    let before = Assignor::Uniform.assign(&group);
    apply(&mut group, &before);
    group.members.insert("c".into(), MemberSpec { topics: [topic(0), topic(1)].into(), ..MemberSpec::default() });
    let after = Assignor::Uniform.assign(&group);
    check_complete(&group, &after);
    let loads: Vec<_> = after.values().map(load).collect();
    assert!(loads.iter().max().expect("some") - loads.iter().min().expect("some") <= 1, "{loads:?}");
    assert_eq!(moved(&before, &after), load(&after["c"]), "only what the new member got has moved");
}

#[test]
fn nothing_moves_when_nothing_changes() {
    let shapes: [&[(&str, &[u32])]; 3] = [
        &[("a", &[0, 1]), ("b", &[0, 1]), ("c", &[0, 1])],
        &[("a", &[0]), ("b", &[0, 1]), ("c", &[1])],
        &[("a", &[0, 1, 2]), ("b", &[2])],
    ];
    for members in shapes {
        let mut group = spec(members, &[5, 7, 3]);
        let first = Assignor::Uniform.assign(&group);
        apply(&mut group, &first);
        assert_eq!(Assignor::Uniform.assign(&group), first, "{members:?}");
    }
}

#[test]
fn a_topic_that_is_gone_and_a_partition_claimed_twice_are_put_right() {
    let mut group = spec(&[("a", &[0]), ("b", &[0])], &[4]);
    for member in group.members.values_mut() {
        member.current = [(topic(0), [0, 1, 9].into()), (topic(5), [0].into())].into();
    }
    let targets = Assignor::Uniform.assign(&group);
    check_complete(&group, &targets);
    assert_eq!(load(&targets["a"]), 2);
}

#[test]
fn members_without_topics_and_groups_without_members() {
    for assignor in Assignor::ALL {
        let group = spec(&[("a", &[]), ("b", &[])], &[]);
        assert_eq!(assignor.assign(&group).values().map(load).sum::<usize>(), 0);
        assert!(assignor.assign(&GroupSpec::default()).is_empty());
    }
}

/// How far a group is from balance: no move of one partition to another reader of it may help by two or more.
fn check_balanced(spec: &GroupSpec, targets: &Targets) {
    for (id, target) in targets {
        for topic in target.keys() {
            for (other, member) in &spec.members {
                if member.topics.contains(topic) {
                    let (here, there) = (load(target), load(&targets[other]));
                    assert!(here <= there + 1, "{id} has {here}, {other} could take of {topic} and has {there}");
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Shape {
    partitions: Vec<i32>,
    /// Per member: which topics it reads.
    members: Vec<Vec<bool>>,
}

fn shape(homogeneous: bool) -> impl Strategy<Value = Shape> {
    (1usize..5).prop_flat_map(move |topics| {
        let partitions = prop::collection::vec(0i32..12, topics);
        let member =
            prop::collection::vec(if homogeneous { Just(true).boxed() } else { any::<bool>().boxed() }, topics);
        (partitions, prop::collection::vec(member, 1..8))
            .prop_map(|(partitions, members)| Shape { partitions, members })
    })
}

fn build(shape: &Shape) -> GroupSpec {
    let member = |(n, reads): (usize, &Vec<bool>)| {
        let topics = (0..).zip(reads).filter(|(_, reads)| **reads).map(|(n, _)| topic(n)).collect();
        (Arc::from(format!("m{n}")), MemberSpec { topics, ..MemberSpec::default() })
    };
    GroupSpec {
        members: shape.members.iter().enumerate().map(member).collect(),
        partitions: (0..).zip(&shape.partitions).map(|(n, count)| (topic(n), *count)).collect(),
    }
}

proptest! {
    #[test]
    fn every_partition_goes_to_exactly_one_of_its_readers(shape in shape(false)) {
        let group = build(&shape);
        for assignor in Assignor::ALL {
            check_complete(&group, &assignor.assign(&group));
        }
    }

    #[test]
    fn uniform_is_balanced_to_one_and_keeps_what_it_can(shape in shape(true), leaves in any::<prop::sample::Index>()) {
        let mut group = build(&shape);
        let before = Assignor::Uniform.assign(&group);
        let loads: Vec<_> = before.values().map(load).collect();
        prop_assert!(loads.iter().max() <= loads.iter().min().map(|min| min + 1).as_ref());
        apply(&mut group, &before);
        prop_assert_eq!(&Assignor::Uniform.assign(&group), &before);

        let gone = group.members.keys().nth(leaves.index(group.members.len())).expect("in range").clone();
        group.members.remove(&gone);
        if !group.members.is_empty() {
            let after = Assignor::Uniform.assign(&group);
            check_complete(&group, &after);
            let staying: Targets = before.iter().filter(|(id, _)| **id != gone).map(|(id, t)| (id.clone(), t.clone())).collect();
            prop_assert_eq!(moved(&staying, &after), 0, "those that stay keep all they had");
        }
    }

    #[test]
    fn uniform_of_different_readers_is_balanced_and_sticky(shape in shape(false)) {
        let mut group = build(&shape);
        let before = Assignor::Uniform.assign(&group);
        check_balanced(&group, &before);
        apply(&mut group, &before);
        prop_assert_eq!(Assignor::Uniform.assign(&group), before);
    }

    #[test]
    fn any_old_target_is_put_right(shape in shape(false), other in shape(false)) {
        let mut group = build(&shape);
        let stale = Assignor::Uniform.assign(&build(&other));
        for (id, member) in &mut group.members {
            member.current = stale.get(id).cloned().unwrap_or_default();
        }
        for assignor in Assignor::ALL {
            check_complete(&group, &assignor.assign(&group));
        }
    }
}
