use proptest::prelude::*;

use super::*;

/// Members m00, m01, ... of these processes.
fn spec(subtopologies: &[(i32, bool)], processes: &[usize], standby_replicas: i32) -> GroupSpec {
    let member = |(at, process): (usize, &usize)| {
        let spec = MemberSpec { process_id: format!("p{process}"), ..MemberSpec::default() };
        (format!("m{at:02}").into(), spec)
    };
    GroupSpec {
        members: processes.iter().enumerate().map(member).collect(),
        subtopologies: subtopologies.iter().enumerate().map(|(id, of)| (id.to_string(), *of)).collect(),
        standby_replicas,
    }
}

/// The same after these targets were taken up.
fn continued(mut spec: GroupSpec, targets: &Targets) -> GroupSpec {
    for (id, member) in &mut spec.members {
        member.current = targets.get(id).cloned().unwrap_or_default();
    }
    spec
}

fn check(spec: &GroupSpec, targets: &Targets) {
    let mut active: Vec<&Task> = targets.values().flat_map(|target| &target.active).collect();
    active.sort();
    let wanted = tasks(spec, false);
    let mut wanted: Vec<&Task> = wanted.iter().collect();
    wanted.sort();
    assert_eq!(active, wanted, "every task has exactly one member");

    let counts: Vec<usize> = targets.values().map(|target| target.active.len()).collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{counts:?}");

    let mut of_process: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
    for (id, target) in targets {
        let process = of_process.entry(&spec.members[id].process_id).or_default();
        process.extend(target.active.iter().chain(&target.standby));
    }
    for (process, mut tasks) in of_process.clone() {
        tasks.sort();
        let all = tasks.len();
        tasks.dedup();
        assert_eq!(tasks.len(), all, "{process} has a task twice");
    }
    let standbys = |task: &Task| targets.values().filter(|target| target.standby.contains(task)).count();
    let replicas = (spec.standby_replicas as usize).min(of_process.len() - 1);
    let stateful = tasks(spec, true);
    for task in tasks(spec, false) {
        let wanted = if stateful.contains(&task) { replicas } else { 0 };
        assert_eq!(standbys(&task), wanted, "{task:?}");
    }
}

fn moved(before: &Targets, after: &Targets) -> usize {
    let owner = |targets: &Targets, task: &Task| {
        targets.iter().find(|(_, target)| target.active.contains(task)).map(|(id, _)| id.clone())
    };
    let tasks = before.values().flat_map(|target| &target.active);
    tasks.filter(|task| owner(before, task) != owner(after, task)).count()
}

fn groups() -> impl Strategy<Value = (Vec<(i32, bool)>, Vec<usize>, i32)> {
    let subtopologies = prop::collection::vec((0..20, any::<bool>()), 1..4);
    (subtopologies, prop::collection::vec(0..4usize, 1..8), 0..3)
}

proptest! {
    #[test]
    fn every_task_has_one_owner_and_loads_are_even((subtopologies, processes, replicas) in groups()) {
        let spec = spec(&subtopologies, &processes, replicas);
        let targets = assign(&spec);
        check(&spec, &targets);
        let again = continued(spec, &targets);
        let targets_again = assign(&again);
        check(&again, &targets_again);
        prop_assert_eq!(moved(&targets, &targets_again), 0, "nothing changed, nothing moves");
    }

    #[test]
    fn who_comes_gets_its_share_and_no_more_moves((subtopologies, processes, replicas) in groups(), new in 0..4usize) {
        let before = spec(&subtopologies, &processes, replicas);
        let targets = assign(&before);
        let mut processes = processes;
        processes.push(new);
        let after = continued(spec(&subtopologies, &processes, replicas), &targets);
        let targets_after = assign(&after);
        check(&after, &targets_after);
        let newcomer: Arc<str> = format!("m{:02}", processes.len() - 1).into();
        prop_assert_eq!(moved(&targets, &targets_after), targets_after[&newcomer].active.len());
    }

    #[test]
    fn who_stays_keeps_what_it_has((subtopologies, processes, replicas) in groups(), gone in any::<prop::sample::Index>()) {
        prop_assume!(processes.len() > 1);
        let before = spec(&subtopologies, &processes, replicas);
        let targets = assign(&before);
        let gone: Arc<str> = format!("m{:02}", gone.index(processes.len())).into();
        let mut after = continued(before, &targets);
        after.members.remove(&gone);
        let targets_after = assign(&after);
        check(&after, &targets_after);
        prop_assert_eq!(moved(&targets, &targets_after), targets[&gone].active.len());
    }
}

#[test]
fn a_standby_takes_over() {
    let both = spec(&[(2, true)], &[0, 1], 1);
    let targets = assign(&both);
    let mut left = continued(spec(&[(4, true)], &[0, 1, 2], 0), &targets);
    left.subtopologies.insert("0".to_owned(), (2, true));
    let followed = targets["m01"].standby.clone();
    left.members.remove("m00");
    let after = assign(&left);
    assert!(after["m01"].active.is_superset(&targets["m01"].active), "{after:?}");
    // m02 is new and gets one of two; had m01 been alone it would have both.
    left.members.remove("m02");
    let alone = assign(&left);
    assert!(alone["m01"].active.is_superset(&followed), "{alone:?}");
}

#[test]
fn state_on_disk_attracts_tasks() {
    let mut group = spec(&[(4, true)], &[0, 1], 0);
    let task = ("0".to_owned(), 0);
    group.members.get_mut("m01").expect("a member").has_state.insert(task.clone());
    assert!(assign(&group)["m01"].active.contains(&task));
}
