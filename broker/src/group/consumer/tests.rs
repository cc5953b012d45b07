use krocket_protocol::ErrorCode;

use super::member::MemberState;
use crate::group::testing::{Beat, Harness, Join, assigned, now};

/// Beats like a client that does as it is told, until the answer says nothing new.
fn follow(group: &mut Harness, id: &str, epoch: i32, topic: &'static str) -> (i32, Vec<i32>) {
    let mut epoch = epoch;
    let mut owned: Vec<i32> = group
        .consumer()
        .members
        .get(id)
        .and_then(|m| m.assigned.get(&crate::group::topics::fixed::id_of(topic)))
        .map(|set| set.keys().copied().collect())
        .unwrap_or_default();
    for _ in 0..4 {
        let answer = group.beat(&Beat::at(id, epoch).owning(topic, &owned)).expect("lives");
        epoch = answer.member_epoch;
        if let Some(partitions) = assigned(&answer, topic) {
            owned = partitions;
        }
    }
    (epoch, owned)
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut group = Harness::new(&[("t", 3)]);
    let answer = group.beat(&Beat::join("a", &["t"])).expect("joins");
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (1, 5_000));
    assert_eq!(assigned(&answer, "t"), Some(vec![0, 1, 2]));
    let quiet = group.beat(&Beat::at("a", 1)).expect("stays");
    assert_eq!((quiet.member_epoch, quiet.assignment), (1, None));
    let full = Beat { epoch: 1, ..Beat::join("a", &["t"]).owning("t", &[0, 1, 2]) };
    assert_eq!(assigned(&group.beat(&full).expect("stays"), "t"), Some(vec![0, 1, 2]));
    assert_eq!(group.consumer().state(), "Stable");
}

#[test]
fn partitions_are_given_up_before_they_are_given_out() {
    let mut group = Harness::new(&[("t", 4)]);
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    let b = group.beat(&Beat::join("b", &["t"])).expect("joins");
    assert_eq!((b.member_epoch, assigned(&b, "t")), (2, Some(vec![])));
    assert_eq!(group.consumer().members["b"].state, MemberState::Unreleased);

    let a = group.beat(&Beat::at("a", 1)).expect("lives");
    assert_eq!((a.member_epoch, assigned(&a, "t").map(|p| p.len())), (1, Some(2)), "told to give up two");
    assert_eq!(group.consumer().members["a"].state, MemberState::Unrevoked);
    // It still has them: nobody else gets them.
    let still = Beat::at("a", 1).owning("t", &[0, 1, 2, 3]);
    assert_eq!(group.beat(&still).expect("lives").member_epoch, 1);
    assert_eq!(assigned(&group.beat(&Beat::at("b", 2)).expect("lives"), "t"), None);

    let kept = assigned(&a, "t").expect("assignment");
    let done = group.beat(&Beat::at("a", 1).owning("t", &kept)).expect("lives");
    assert_eq!(done.member_epoch, 2);
    let b = group.beat(&Beat::at("b", 2)).expect("lives");
    let got = assigned(&b, "t").expect("assignment");
    assert_eq!((got.len(), got.iter().any(|p| kept.contains(p))), (2, false));
    assert_eq!(group.consumer().state(), "Stable");
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_fenced() {
    let mut group = Harness::new(&[("t", 2)]);
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    group.beat(&Beat::join("b", &["t"])).expect("joins");
    for _ in 0..6 {
        group.beat(&Beat::at("a", 1).owning("t", &[0, 1])).expect("lives");
        group.beat(&Beat::at("b", 2)).expect("lives");
        group.advance(5_000);
    }
    let fenced = group.beat(&Beat::at("a", 1)).expect_err("fenced");
    assert_eq!(fenced.code, ErrorCode::UnknownMemberId);
    assert_eq!(follow(&mut group, "b", 2, "t"), (3, vec![0, 1]));
}

#[test]
fn a_silent_member_is_fenced_after_its_session() {
    let mut group = Harness::new(&[("t", 2)]);
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    group.advance(44_999);
    group.beat(&Beat::at("a", 1)).expect("lives");
    group.advance(45_000);
    assert_eq!(group.beat(&Beat::at("a", 1)).expect_err("gone").code, ErrorCode::UnknownMemberId);
    assert_eq!((group.consumer().state(), group.consumer().epoch), ("Empty", 2));
}

#[test]
fn epochs_fence() {
    let mut group = Harness::new(&[("t", 4)]);
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    group.beat(&Beat::join("b", &["t"])).expect("joins");
    let (epoch, owned) = follow(&mut group, "a", 1, "t");
    assert_eq!((epoch, owned.len()), (2, 2));
    let outside: Vec<i32> = (0..4).filter(|p| !owned.contains(p)).collect();
    let cases = [
        (Beat::at("a", 3), Err(ErrorCode::FencedMemberEpoch)),
        // The answer with epoch 2 got lost.
        (Beat::at("a", 1).owning("t", &owned), Ok(2)),
        (Beat::at("a", 1).owning("t", &outside), Err(ErrorCode::FencedMemberEpoch)),
        (Beat::at("a", 1), Err(ErrorCode::FencedMemberEpoch)),
        (Beat::at("nobody", 2), Err(ErrorCode::UnknownMemberId)),
        // Fenced or not, with nothing in hand it may start over.
        (Beat::join("a", &["t"]), Ok(2)),
    ];
    for (beat, expected) in cases {
        let result = group.beat(&beat).map(|answer| answer.member_epoch).map_err(|refusal| refusal.code);
        assert_eq!(result, expected, "epoch {} owning {:?}", beat.epoch, beat.owned);
    }
}

#[test]
fn groups_that_are_not_there_or_are_classic() {
    let mut group = Harness::new(&[("t", 1)]);
    assert_eq!(group.beat(&Beat::at("a", 1)).expect_err("none").code, ErrorCode::GroupIdNotFound);
    assert_eq!(group.beat(&Beat::at("a", -1)).expect_err("none").code, ErrorCode::GroupIdNotFound);
    group.join_and_sync(&Join { protocol_type: "connect", ..Join::default() });
    assert_eq!(group.beat(&Beat::join("a", &["t"])).expect_err("connect").code, ErrorCode::GroupIdNotFound);
}

#[test]
fn leaving_frees_partitions_at_once() {
    let mut group = Harness::new(&[("t", 2)]);
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    group.beat(&Beat::join("b", &["t"])).expect("joins");
    let left = group.beat(&Beat::at("a", -1)).expect("leaves");
    assert_eq!(left.member_epoch, -1);
    assert_eq!(follow(&mut group, "b", 2, "t"), (3, vec![0, 1]));
    group.beat(&Beat::at("b", -1)).expect("leaves");
    assert_eq!((group.consumer().state(), group.consumer().epoch, group.consumer().assignment_epoch), ("Empty", 4, 4));
    assert_eq!(group.beat(&Beat::join("c", &["t"])).expect("joins").member_epoch, 5, "epochs go on");
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    let mut group = Harness::new(&[("t", 4)]);
    let join = |id: &str, instance| Beat { instance: Some(instance), ..Beat::join(id, &["t"]) };
    group.beat(&join("a", "i")).expect("joins");
    group.beat(&join("b", "j")).expect("joins");
    let taken = group.beat(&join("a2", "i")).expect_err("still there");
    assert_eq!(taken.code, ErrorCode::UnreleasedInstanceId);
    let (epoch, owned) = follow_static(&mut group, "a", "i", 1);
    follow_static(&mut group, "b", "j", 2);

    let left = group.beat(&Beat { instance: Some("i"), ..Beat::at("a", -2) }).expect("leaves");
    assert_eq!(left.member_epoch, -2);
    assert_eq!(group.consumer().epoch, epoch, "nobody has to move");
    let back = group.beat(&join("a2", "i")).expect("comes back");
    assert_eq!((back.member_epoch, assigned(&back, "t")), (epoch, Some(owned)));
    let old = group.beat(&Beat { instance: Some("i"), ..Beat::at("a", epoch) }).expect_err("replaced");
    assert_eq!(old.code, ErrorCode::FencedInstanceId);
    let unknown = group.beat(&Beat { instance: Some("k"), ..Beat::at("a", epoch) }).expect_err("unknown");
    assert_eq!(unknown.code, ErrorCode::UnknownMemberId);

    // One that stays away is gone with its session.
    group.beat(&Beat { instance: Some("i"), ..Beat::at("a2", -2) }).expect("leaves");
    for _ in 0..9 {
        group.advance(5_000);
        group.beat(&Beat { instance: Some("j"), ..Beat::at("b", group.consumer().members["b"].epoch) }).expect("lives");
    }
    assert_eq!(group.consumer().members.len(), 1);
}

fn follow_static(group: &mut Harness, id: &str, instance: &'static str, mut epoch: i32) -> (i32, Vec<i32>) {
    let mut owned: Option<Vec<i32>> = None;
    for _ in 0..4 {
        let mut beat = Beat { instance: Some(instance), ..Beat::at(id, epoch) };
        if let Some(owned) = &owned {
            beat = beat.owning("t", owned);
        }
        let answer = group.beat(&beat).expect("lives");
        epoch = answer.member_epoch;
        owned = assigned(&answer, "t").or(owned);
    }
    (epoch, owned.unwrap_or_default())
}

#[test]
fn partitions_and_topics_that_appear_are_given_out_and_those_that_go_are_taken() {
    let mut group = Harness::new(&[("t", 1)]);
    let a = group.beat(&Beat::join("a", &["t", "later"])).expect("joins");
    assert_eq!(assigned(&a, "t"), Some(vec![0]));
    group.topics.set("t", 3);
    group.topics.set("later", 1);
    let a = group.beat(&Beat::at("a", 1)).expect("lives");
    assert_eq!((a.member_epoch, assigned(&a, "t"), assigned(&a, "later")), (2, Some(vec![0, 1, 2]), Some(vec![0])));
    group.topics.set("other", 1);
    assert_eq!(group.beat(&Beat::at("a", 2)).expect("lives").member_epoch, 2, "not its business");
    group.topics.remove("t");
    let a = group.beat(&Beat::at("a", 2).owning("later", &[0])).expect("lives");
    assert_eq!((a.member_epoch, assigned(&a, "t"), assigned(&a, "later")), (3, Some(vec![]), Some(vec![0])));
}

#[test]
fn expressions_follow_the_topics() {
    let mut group = Harness::new(&[("foo-1", 1), ("bar", 1)]);
    let join = |id: &str, regex| Beat { topics: None, regex: Some(regex), ..Beat::join(id, &[]) };
    let refusal = group.beat(&join("a", "(")).expect_err("not an expression");
    assert_eq!(refusal.code, ErrorCode::InvalidRegularExpression);
    assert!(!group.state.exists(), "a refused request leaves nothing");

    let a = group.beat(&join("a", "foo.*")).expect("joins");
    assert_eq!((assigned(&a, "foo-1"), assigned(&a, "bar")), (Some(vec![0]), Some(vec![])));
    group.topics.set("foo-2", 2);
    let a = group.beat(&Beat::at("a", 1)).expect("lives");
    assert_eq!(assigned(&a, "foo-2"), Some(vec![0, 1]));
    assert!(group.consumer().is_subscribed("foo-2") && !group.consumer().is_subscribed("bar"));

    // Another expression, and names beside it.
    let change = Beat { regex: Some("ba."), topics: Some(vec!["foo-1"]), ..Beat::at("a", 2) };
    group.beat(&change).expect("lives");
    let a = group.beat(&Beat::at("a", 2).owning("foo-1", &[0])).expect("lives");
    assert_eq!(
        (assigned(&a, "foo-1"), assigned(&a, "bar"), assigned(&a, "foo-2")),
        (Some(vec![0]), Some(vec![0]), Some(vec![]))
    );
    let bad = Beat { regex: Some("["), ..Beat::at("a", a.member_epoch) };
    assert_eq!(group.beat(&bad).expect_err("bad").code, ErrorCode::InvalidRegularExpression);
    assert_eq!(group.consumer().members["a"].regex(), Some("ba."));
}

#[test]
fn the_majority_chooses_the_assignor() {
    let mut group = Harness::new(&[("t", 2), ("u", 2)]);
    let join = |id: &str, assignor| Beat { assignor, ..Beat::join(id, &["t", "u"]) };
    group.beat(&join("a", Some("range"))).expect("joins");
    group.beat(&join("b", Some("range"))).expect("joins");
    let default = group.settings.default_assignor();
    assert_eq!(group.consumer().assignor(default).name(), "range");
    let target = &group.consumer().members["a"].target;
    assert!(target.values().all(|set| set.iter().eq([&0])), "co-partitioned: {target:?}");
    group.beat(&join("c", Some("uniform"))).expect("joins");
    assert_eq!(group.consumer().assignor(default).name(), "range");
    let epoch = group.consumer().epoch;
    group.beat(&Beat { assignor: Some("uniform"), ..Beat::at("b", 2) }).expect("lives");
    assert_eq!((group.consumer().assignor(default).name(), group.consumer().epoch), ("uniform", epoch + 1));
    group.beat(&Beat { assignor: Some("uniform"), ..Beat::at("a", 1) }).expect("lives");
    assert_eq!(group.consumer().epoch, epoch + 1, "the assignor is the same");
}

#[test]
fn unsubscribing_takes_partitions_at_once() {
    let mut group = Harness::new(&[("t", 2), ("u", 2)]);
    group.beat(&Beat::join("a", &["t", "u"])).expect("joins");
    let answer = group
        .beat(&Beat { topics: Some(vec!["t"]), ..Beat::at("a", 1).owning("t", &[0, 1]).owning("u", &[0, 1]) })
        .expect("lives");
    assert_eq!(assigned(&answer, "u"), Some(vec![]));
    assert_eq!(group.consumer().members["a"].state, MemberState::Unrevoked);
    assert_eq!(follow(&mut group, "a", 1, "t").0, 2);
}

#[test]
fn the_size_of_a_group_is_limited() {
    let mut group = Harness::new(&[("t", 2)]);
    group.settings.consumer_max_size = 1;
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    assert_eq!(group.beat(&Beat::join("b", &["t"])).expect_err("full").code, ErrorCode::GroupMaxSizeReached);
    group.beat(&Beat::at("a", 1)).expect("was there before");
}

#[test]
fn everything_survives_a_restart_in_any_state() {
    let mut group = Harness::new(&[("t", 4)]);
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    group.beat(&Beat::join("b", &["t"])).expect("joins");
    group.restart();
    // In the middle of giving up partitions.
    let a = group.beat(&Beat::at("a", 1)).expect("lives");
    let kept = assigned(&a, "t").expect("told to give up");
    group.restart();
    assert_eq!(group.consumer().members["a"].state, MemberState::Unrevoked);
    assert_eq!(assigned(&group.beat(&Beat::at("b", 2)).expect("lives"), "t"), None);
    group.restart();
    assert_eq!(group.beat(&Beat::at("a", 1).owning("t", &kept)).expect("lives").member_epoch, 2);
    group.restart();
    let b = group.beat(&Beat::at("b", 2)).expect("lives");
    assert_eq!(assigned(&b, "t").map(|p| p.len()), Some(2));
    assert_eq!((group.consumer().epoch, group.consumer().state()), (2, "Stable"));
    group.advance(44_000);
    group.restart();
    group.advance(44_000);
    group.beat(&Beat::at("a", 2)).expect("a restart begins its session anew");
}

#[test]
fn commits_are_for_the_epoch_or_for_partitions_held_since_before_it() {
    let mut group = Harness::new(&[("t", 4)]);
    assert_eq!(group.commit("", -1, 9), Ok(()));
    group.beat(&Beat::join("a", &["t"])).expect("joins");
    group.beat(&Beat::join("b", &["t"])).expect("joins");
    let (epoch, owned) = follow(&mut group, "a", 1, "t");
    assert_eq!(epoch, 2);
    let lost = (0..4).find(|p| !owned.contains(p)).expect("some");
    let cases = [
        ("a", 2, 9, owned[0], Ok(())),
        ("a", 2, 9, lost, Ok(())),
        // Kept since epoch 1: an answer of that epoch may still be on its way.
        ("a", 1, 9, owned[0], Ok(())),
        ("a", 1, 9, lost, Err(ErrorCode::StaleMemberEpoch)),
        ("a", 3, 9, owned[0], Err(ErrorCode::StaleMemberEpoch)),
        ("a", 2, 8, owned[0], Err(ErrorCode::UnsupportedVersion)),
        ("nobody", 2, 9, owned[0], Err(ErrorCode::UnknownMemberId)),
        ("", -1, 9, owned[0], Err(ErrorCode::UnknownMemberId)),
    ];
    for (member, epoch, version, partition, expected) in cases {
        assert_eq!(group.commit_to(member, epoch, version, "t", partition), expected, "{member} {epoch} {partition}");
    }
    let fetch = [
        (None, -1, Ok(())),
        (Some("a"), 2, Ok(())),
        (Some("a"), 1, Err(ErrorCode::StaleMemberEpoch)),
        (Some("nobody"), 2, Err(ErrorCode::UnknownMemberId)),
    ];
    for (member, epoch, expected) in fetch {
        assert_eq!(group.state.validate_fetch(member, epoch), expected, "{member:?} {epoch}");
    }
}

// ---- migration ----

fn classic(owned: &[(&str, &[i32])]) -> Join {
    Join {
        protocols: vec![("cooperative-sticky", crate::group::embedded::tests::encode(1, &["t"], owned))],
        ..Join::default()
    }
}

/// A classic group of one member that has all of `t`.
fn classic_group(group: &mut Harness) -> (String, i32) {
    let (id, joined) = group.join_twice(&classic(&[]));
    group.advance(0);
    let generation = now(joined).generation_id;
    let all = crate::group::embedded::encode_assignment(1, &vec![("t".to_owned(), vec![0, 1, 2, 3])]);
    let all: &'static [u8] = all.to_vec().leak();
    now(group.sync(&id, generation, &[(&id, all)]));
    (id, generation)
}

fn partitions_of(assignment: &[u8]) -> Vec<i32> {
    let (topics, _) = crate::group::embedded::assignment(assignment).expect("well formed");
    topics.into_iter().flat_map(|(_, partitions)| partitions).collect()
}

#[test]
fn a_group_is_upgraded_and_downgraded_with_nobody_losing_a_partition_twice() {
    let mut group = Harness::new(&[("t", 4)]);
    let (old, generation) = classic_group(&mut group);
    group.advance(3_000);
    let new = group.beat(&Beat::join("new", &["t"])).expect("joins");
    assert_eq!((new.member_epoch, assigned(&new, "t")), (generation + 1, Some(vec![])));
    assert!(group.consumer().members[&*old].classic.is_some());

    // The classic member is told to rejoin, gives up half, and rejoins once more.
    assert_eq!(group.heartbeat(&old, generation), Err(ErrorCode::RebalanceInProgress));
    let all = [0, 1, 2, 3];
    let joined = now(group.join(&Join { id: old.clone(), ..classic(&[("t", &all)]) }));
    assert_eq!((joined.error_code, joined.generation_id), (0, generation));
    assert_eq!(joined.protocol_name.as_deref(), Some("cooperative-sticky"));
    let synced = now(group.sync(&old, generation, &[]));
    let kept = partitions_of(&synced.assignment);
    assert_eq!((synced.error_code, kept.len()), (0, 2));
    assert_eq!(group.heartbeat(&old, generation), Err(ErrorCode::RebalanceInProgress), "rejoin when revoked");
    assert_eq!(assigned(&group.beat(&Beat::at("new", generation + 1)).expect("lives"), "t"), None);
    let joined = now(group.join(&Join { id: old.clone(), ..classic(&[("t", &kept)]) }));
    assert_eq!(joined.generation_id, generation + 1);
    assert_eq!(partitions_of(&now(group.sync(&old, generation + 1, &[])).assignment), kept);
    assert_eq!(group.heartbeat(&old, generation + 1), Ok(()));
    let new = group.beat(&Beat::at("new", generation + 1)).expect("lives");
    assert_eq!(assigned(&new, "t").map(|p| p.len()), Some(2));
    assert_eq!(group.commit(&old, generation + 1, 8), Ok(()), "a classic member commits as ever");

    // It all survives a restart, and then the new member leaves: classic again.
    group.restart();
    group.beat(&Beat::at("new", -1)).expect("leaves");
    assert!(group.classic().generation > generation);
    let now_at = group.classic().generation;
    assert_eq!(group.heartbeat(&old, now_at), Err(ErrorCode::RebalanceInProgress));
    let joined = now(group.join(&Join { id: old.clone(), ..classic(&[("t", &kept)]) }));
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, now_at + 1, 1));
    group.restart();
    assert_eq!(group.classic().generation, now_at + 1);
}

#[test]
fn those_who_wait_hear_of_an_upgrade() {
    let mut group = Harness::new(&[("t", 4)]);
    group.settings.initial_rebalance_delay_ms = 3_000;
    let (old, waiting) = group.join_twice(&classic(&[]));
    group.beat(&Beat::join("new", &["t"])).expect("joins");
    assert_eq!(now(waiting).error_code, ErrorCode::RebalanceInProgress.code());
    let joined = now(group.join(&Join { id: old, ..classic(&[]) }));
    assert_eq!(joined.error_code, 0);
}

#[test]
fn an_empty_group_changes_protocol_freely_and_numbers_go_on() {
    let mut group = Harness::new(&[("t", 4)]);
    let (old, generation) = classic_group(&mut group);
    group.leave(&[(&old, None)]);
    let new = group.beat(&Beat::join("new", &["t"])).expect("joins");
    assert!(new.member_epoch > generation);
    group.beat(&Beat::at("new", -1)).expect("leaves");
    let epoch = group.consumer().epoch;
    let (_, generation) = group.join_and_sync(&Join::default());
    assert!(generation > epoch);
    group.restart();
    assert_eq!(group.classic().generation, generation);
}

#[test]
fn the_policy_decides_who_may_change() {
    use crate::group::settings::MigrationPolicy::{Bidirectional, Disabled, Downgrade, Upgrade};
    for (policy, upgrades) in [(Bidirectional, true), (Upgrade, true), (Downgrade, false), (Disabled, false)] {
        let mut group = Harness::new(&[("t", 4)]);
        group.settings.migration = policy;
        classic_group(&mut group);
        let result = group.beat(&Beat::join("new", &["t"])).map(|_| ()).map_err(|refusal| refusal.code);
        assert_eq!(result.is_ok(), upgrades, "{policy:?}");
    }
    for (policy, downgrades) in [(Bidirectional, true), (Upgrade, false), (Downgrade, true)] {
        let mut group = Harness::new(&[("t", 4)]);
        group.beat(&Beat::join("new", &["t"])).expect("joins");
        let (old, _) = group.join_twice(&classic(&[]));
        group.settings.migration = policy;
        group.beat(&Beat::at("new", -1)).expect("leaves");
        assert_eq!(matches!(group.state.kind, crate::group::state::Kind::Classic(_)), downgrades, "{policy:?} {old}");
    }
    let mut group = Harness::new(&[("t", 4)]);
    group.settings.migration = Disabled;
    group.beat(&Beat::join("new", &["t"])).expect("joins");
    assert_eq!(now(group.join(&classic(&[]))).error_code, ErrorCode::InconsistentGroupProtocol.code());
}

#[test]
fn a_static_member_of_the_new_protocol_is_replaced_by_its_classic_self() {
    let mut group = Harness::new(&[("t", 4)]);
    let mut new = Beat { instance: Some("i"), ..Beat::join("new", &["t"]) };
    group.beat(&new).expect("joins");
    // Rolled back: the last of the new protocol goes, and the group with it.
    let joined = group.join(&Join { instance: Some("i"), ..classic(&[]) });
    let joined = now(joined);
    assert_eq!(joined.error_code, 0);
    assert_eq!(group.classic().members.len(), 1);
    let synced = now(group.sync(&joined.member_id, joined.generation_id, &[]));
    assert_eq!((synced.error_code, partitions_of(&synced.assignment)), (0, vec![0, 1, 2, 3]));
    new.epoch = 1;
    assert_eq!(group.beat(&new).expect_err("gone").code, ErrorCode::GroupIdNotFound);
}

#[test]
fn a_classic_member_that_does_not_rejoin_or_sync_is_fenced() {
    let mut group = Harness::new(&[("t", 4)]);
    group.beat(&Beat::join("new", &["t"])).expect("joins");
    let (old, joined) = group.join_twice(&Join { rebalance_ms: 8_000, ..classic(&[]) });
    let epoch = now(joined).generation_id;
    for _ in 0..2 {
        group.advance(4_000);
        let _ = group.heartbeat(&old, epoch);
        let _ = group.beat(&Beat::at("new", group.consumer().members["new"].epoch));
    }
    assert!(!group.consumer().members.contains_key(&*old), "it never synced");
}
