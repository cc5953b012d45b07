use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::assign::assign;
use crate::group::consumer::assign::{GroupSpec, MemberSpec, Targets};

fn topic(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

/// Members m0, m1, ... that read these topics.
fn spec(partitions: &[i32], readers: &[Vec<usize>]) -> GroupSpec {
    let mut spec = GroupSpec::default();
    for (member, topics) in readers.iter().enumerate() {
        let topics: BTreeSet<Uuid> = topics.iter().map(|&number| topic(number)).collect();
        spec.partitions.extend(topics.iter().map(|id| (*id, partitions[id.as_u128() as usize - 1])));
        spec.members.insert(name(member), MemberSpec { topics, ..MemberSpec::default() });
    }
    spec
}

fn name(member: usize) -> std::sync::Arc<str> {
    format!("m{member:03}").into()
}

fn continued(mut spec: GroupSpec, targets: &Targets) -> GroupSpec {
    for (id, member) in &mut spec.members {
        member.current = targets.get(id).cloned().unwrap_or_default();
    }
    spec
}

fn pairs(target: &BTreeMap<Uuid, BTreeSet<i32>>) -> BTreeSet<(Uuid, i32)> {
    target.iter().flat_map(|(topic, set)| set.iter().map(|partition| (*topic, *partition))).collect()
}

fn counts(targets: &Targets) -> Vec<usize> {
    targets.values().map(|target| pairs(target).len()).collect()
}

/// How many members each partition has.
fn sharing(targets: &Targets) -> BTreeMap<(Uuid, i32), usize> {
    let mut sharing = BTreeMap::new();
    for pair in targets.values().flat_map(pairs) {
        *sharing.entry(pair).or_default() += 1;
    }
    sharing
}

/// Partitions that members had before and lost, of those who are still there.
fn moved(before: &Targets, after: &Targets) -> usize {
    let lost =
        |(id, had): (_, &BTreeMap<_, _>)| after.get(id).map_or(0, |has| pairs(had).difference(&pairs(has)).count());
    before.iter().map(lost).sum()
}

fn check_pool(spec: &GroupSpec, targets: &Targets) {
    let total: usize = spec.partitions.values().map(|count| *count as usize).sum();
    let sharing = sharing(targets);
    assert_eq!(sharing.len(), total, "every partition has a member");
    let wanted = spec.members.len().div_ceil(total.max(1));
    assert!(sharing.values().all(|members| *members == wanted), "{sharing:?}, wanted {wanted}");
    let counts = counts(targets);
    let (least, most) = (counts.iter().min().expect("members"), counts.iter().max().expect("members"));
    assert!(most - least <= 1, "{counts:?}");
}

proptest! {
    #[test]
    fn every_partition_is_read_and_members_differ_by_one(
        partitions in prop::collection::vec(1i32..12, 1..5), members in prop::collection::vec(1usize..40, 2..7),
    ) {
        let topics: Vec<usize> = (0..partitions.len()).collect();
        let mut targets = Targets::new();
        // Members come and go; who stays goes on from what it has.
        for count in members {
            let spec = continued(spec(&partitions, &vec![topics.clone(); count]), &targets);
            targets = assign(&spec);
            check_pool(&spec, &targets);
            prop_assert_eq!(&assign(&continued(spec, &targets)), &targets, "nothing moves without a reason");
        }
    }

    #[test]
    fn nobody_who_stays_loses_more_than_balance_takes(partitions in 1i32..60, members in 1usize..30) {
        let before = assign(&spec(&[partitions], &vec![vec![0]; members]));
        prop_assume!(members < partitions as usize);
        // One more comes: it takes its own share and nothing else moves.
        let after = assign(&continued(spec(&[partitions], &vec![vec![0]; members + 1]), &before));
        prop_assert_eq!(moved(&before, &after), pairs(&after[&name(members)]).len());
        // One goes: nobody else loses anything.
        let mut fewer = spec(&[partitions], &vec![vec![0]; members]);
        if members > 1 {
            fewer.members.remove(&name(0));
            let after = assign(&continued(fewer, &before));
            prop_assert_eq!(moved(&before, &after), 0);
        }
    }

    #[test]
    fn with_different_subscriptions_every_topic_is_balanced_on_its_own(
        partitions in prop::collection::vec(1i32..8, 4), readers in prop::collection::vec(prop::collection::btree_set(0usize..4, 0..4), 1..20),
        changed in prop::collection::vec(prop::collection::btree_set(0usize..4, 0..4), 1..20),
    ) {
        let mut targets = Targets::new();
        for readers in [readers, changed] {
            let readers: Vec<Vec<usize>> = readers.into_iter().map(|topics| topics.into_iter().collect()).collect();
            let spec = continued(spec(&partitions, &readers), &targets);
            targets = assign(&spec);
            prop_assert_eq!(targets.len(), readers.len());
            for (number, count) in partitions.iter().enumerate() {
                let reading: Vec<_> = spec.members.iter().filter(|(_, m)| m.topics.contains(&topic(number))).map(|(id, _)| id).collect();
                if reading.is_empty() {
                    prop_assert!(targets.values().all(|target| !target.contains_key(&topic(number))));
                    continue;
                }
                let has = |id| targets[id].get(&topic(number)).map_or(0, BTreeSet::len);
                prop_assert!(targets.keys().filter(|id| !reading.contains(id)).all(|id| has(id) == 0), "a topic it does not read");
                let read: BTreeSet<i32> = targets.values().filter_map(|target| target.get(&topic(number))).flatten().copied().collect();
                prop_assert_eq!(read.len(), *count as usize, "every partition has a member");
                let same = spec.members.values().all(|m| m.topics == spec.members.values().next().expect("some").topics);
                let counts: Vec<usize> = reading.iter().map(|id| has(id)).collect();
                let spread = counts.iter().max().expect("some") - counts.iter().min().expect("some");
                prop_assert!(same || spread <= 1, "{counts:?}");
            }
        }
    }
}

#[test]
fn a_group_without_members_or_topics_has_no_targets() {
    assert_eq!(assign(&GroupSpec::default()), Targets::new());
    let nothing = assign(&spec(&[], &[vec![], vec![]]));
    assert_eq!(counts(&nothing), [0, 0]);
    // A topic that has just been deleted has no partitions.
    assert_eq!(counts(&assign(&spec(&[0], &[vec![0]]))), [0]);
}

#[test]
fn a_thousand_members_share_a_thousand_partitions() {
    let spec = spec(&[1000], &vec![vec![0]; 1000]);
    let targets = assign(&spec);
    check_pool(&spec, &targets);
    let fewer = spec_without_half(&spec, &targets);
    let after = assign(&fewer);
    check_pool(&fewer, &after);
    assert_eq!(moved(&targets, &after), 0);
}

fn spec_without_half(spec: &GroupSpec, targets: &Targets) -> GroupSpec {
    let mut fewer = continued(spec.clone(), targets);
    let mut keep = false;
    fewer.members.retain(|_, _| {
        keep = !keep;
        keep
    });
    fewer
}
