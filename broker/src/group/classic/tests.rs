use bytes::Bytes;
use kafka_protocol::messages::SyncGroupRequest;
use krocket_protocol::ErrorCode;

use super::State;
use crate::group::context::text;
use crate::group::testing::{Harness, Join, now, waits};
use crate::group::timers::Timer;

pub(super) fn consumer(topics: &[&str]) -> Bytes {
    crate::group::embedded::tests::encode(1, topics, &[])
}

/// Two members, stable: (leader, follower, generation).
fn pair(group: &mut Harness) -> (String, String, i32) {
    let (a, first) = group.join_twice(&Join::default());
    let (b, second) = group.join_twice(&Join::default());
    group.advance(group.settings.initial_rebalance_delay_ms as u64);
    let (first, second) = (now(first), now(second));
    assert_eq!(first.generation_id, second.generation_id);
    let generation = first.generation_id;
    let (leader, follower) = if *first.leader == *a { (a, b) } else { (b, a) };
    let follows = group.sync(&follower, generation, &[]);
    assert_eq!(now(group.sync(&leader, generation, &[(&leader, b"L"), (&follower, b"F")])).assignment, "L");
    assert_eq!(now(follows).assignment, "F");
    assert_eq!(group.classic().state, State::Stable);
    (leader, follower, generation)
}

#[test]
fn a_dynamic_member_gets_its_id_first_from_version_4_on() {
    for (version, required) in [(3, false), (4, true), (9, true)] {
        let mut group = Harness::new(&[]);
        let mut answer = group.join(&Join { version, ..Join::default() });
        assert_eq!(!waits(&mut answer), required, "version {version}");
        if !required {
            group.advance(0);
            let joined = now(answer);
            assert_eq!((joined.error_code, joined.generation_id), (0, 1));
            assert_eq!(joined.leader, joined.member_id);
            assert!(joined.member_id.starts_with("client-"));
            assert_eq!(joined.members.len(), 1);
        }
    }
}

#[test]
fn an_id_that_is_not_claimed_within_its_session_is_forgotten() {
    let mut group = Harness::new(&[]);
    let first = now(group.join(&Join::default()));
    assert!(group.state.exists());
    group.advance(10_001);
    assert!(!group.state.exists());
    let again = now(group.join(&Join { id: first.member_id.to_string(), ..Join::default() }));
    assert_eq!(again.error_code, ErrorCode::UnknownMemberId.code());
}

#[test]
fn the_first_generation_waits_for_members_that_start_together() {
    let mut group = Harness::new(&[]);
    group.settings.initial_rebalance_delay_ms = 300;
    let (_, mut a) = group.join_twice(&Join::default());
    group.advance(250);
    let (_, mut b) = group.join_twice(&Join::default());
    group.advance(100);
    assert!(waits(&mut a), "another member came: the wait begins anew");
    group.advance(250);
    assert_eq!((now(a).generation_id, waits(&mut b)), (1, false));
}

#[test]
fn the_initial_wait_ends_with_the_rebalance_timeout_however_many_come() {
    let mut group = Harness::new(&[]);
    group.settings.initial_rebalance_delay_ms = 300;
    let join = Join { rebalance_ms: 1_000, ..Join::default() };
    let (_, mut first) = group.join_twice(&join);
    for _ in 0..5 {
        group.advance(200);
        drop(group.join_twice(&join).1);
    }
    group.advance(250);
    assert!(!waits(&mut first));
}

#[test]
fn many_members_that_join_at_once_end_up_in_one_generation() {
    let mut group = Harness::new(&[]);
    group.settings.initial_rebalance_delay_ms = 300;
    let mut members = Vec::new();
    for _ in 0..50 {
        members.push(group.join_twice(&Join::default()));
    }
    group.advance(600);
    let joined: Vec<_> = members.into_iter().map(|(id, answer)| (id, now(answer))).collect();
    assert!(
        joined
            .iter()
            .all(|(id, answer)| answer.error_code == 0 && answer.generation_id == 1 && *answer.member_id == **id)
    );
    assert_eq!(joined.iter().filter(|(_, answer)| answer.members.len() == 50).count(), 1);

    // All of them at once again, as after a lost connection: nobody is UNKNOWN_MEMBER_ID.
    let again: Vec<_> = joined
        .iter()
        .map(|(id, _)| {
            group.join(&Join { id: id.clone(), protocols: vec![("range", consumer(&["t", "u"]))], ..Join::default() })
        })
        .collect();
    let again: Vec<_> = again.into_iter().map(now).collect();
    assert!(again.iter().all(|answer| answer.error_code == 0 && answer.generation_id == 2));
}

#[test]
fn the_leader_assigns_and_everybody_hears() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    assert_eq!(group.heartbeat(&leader, generation), Ok(()));
    assert_eq!(group.heartbeat(&follower, generation + 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(group.heartbeat("nobody", generation), Err(ErrorCode::UnknownMemberId));
    // A member that lost its answer asks again.
    assert_eq!(now(group.sync(&follower, generation, &[])).assignment, "F");
}

#[test]
fn a_sync_must_fit_the_generation() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let ask =
        |id: &str, generation| SyncGroupRequest::default().with_member_id(text(id)).with_generation_id(generation);
    let cases = [
        (ask("nobody", generation), ErrorCode::UnknownMemberId),
        (ask(&leader, generation - 1), ErrorCode::IllegalGeneration),
        (ask(&leader, generation).with_protocol_type(Some(text("connect"))), ErrorCode::InconsistentGroupProtocol),
        (ask(&leader, generation).with_protocol_name(Some(text("roundrobin"))), ErrorCode::InconsistentGroupProtocol),
        (ask(&leader, generation).with_group_instance_id(Some(text("i"))), ErrorCode::UnknownMemberId),
    ];
    for (request, code) in cases {
        assert_eq!(now(group.sync_with(&request)).error_code, code.code(), "{request:?}");
    }
    let rejoin = group.join(&Join { id: leader, ..Join::default() });
    assert_eq!(now(group.sync(&follower, generation, &[])).error_code, ErrorCode::RebalanceInProgress.code());
    drop(rejoin);
}

#[test]
fn a_new_member_makes_the_others_rejoin() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let (third, mut joining) = group.join_twice(&Join::default());
    for id in [&leader, &follower] {
        assert_eq!(group.heartbeat(id, generation), Err(ErrorCode::RebalanceInProgress));
    }
    let mut first = group.join(&Join { id: leader.clone(), ..Join::default() });
    assert!(waits(&mut first) && waits(&mut joining));
    let second = group.join(&Join { id: follower.clone(), ..Join::default() });
    for answer in [first, second, joining] {
        let joined = now(answer);
        assert_eq!((joined.error_code, joined.generation_id, &*joined.leader), (0, generation + 1, &*leader));
        assert_eq!(joined.members.len(), if joined.member_id == joined.leader { 3 } else { 0 });
    }
    assert!(group.classic().members.contains_key(&*third));
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_behind_and_another_leads() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let (third, joining) = group.join_twice(&Join::default());
    let rejoining = group.join(&Join { id: follower.clone(), ..Join::default() });
    // It heartbeats all the while, so it is not its session that ends.
    for _ in 0..13 {
        group.advance(5_000);
        let _ = group.heartbeat(&leader, generation);
    }
    let (a, b) = (now(joining), now(rejoining));
    assert_eq!((a.error_code, a.generation_id, a.generation_id), (0, generation + 1, b.generation_id));
    assert_ne!(*a.leader, *leader);
    assert!(*a.leader == *third || *a.leader == *follower);
    assert_eq!(group.heartbeat(&leader, generation), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn the_leader_rebalances_by_rejoining_and_a_follower_does_not() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let same = now(group.join(&Join { id: follower.clone(), ..Join::default() }));
    assert_eq!((same.error_code, same.generation_id, group.classic().state), (0, generation, State::Stable));
    let mut changed = group.join(&Join { id: leader, ..Join::default() });
    assert!(waits(&mut changed));
    assert_eq!(group.heartbeat(&follower, generation), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn protocols_are_chosen_by_vote_among_those_that_all_speak() {
    let speaks = |names: &[&'static str]| Join {
        protocols: names.iter().map(|name| (*name, consumer(&["t"]))).collect(),
        ..Join::default()
    };
    let mut group = Harness::new(&[]);
    let answers: Vec<_> = [&["sticky", "range"][..], &["range", "sticky"], &["range", "other", "sticky"]]
        .map(|names| group.join_twice(&speaks(names)).1)
        .into();
    group.advance(0);
    for answer in answers {
        assert_eq!(now(answer).protocol_name.as_deref(), Some("range"));
    }
    let refused = now(group.join(&speaks(&["other"])));
    assert_eq!(refused.error_code, ErrorCode::InconsistentGroupProtocol.code());
    let refused = now(group.join(&Join { protocol_type: "connect", ..speaks(&["range"]) }));
    assert_eq!(refused.error_code, ErrorCode::InconsistentGroupProtocol.code());
}

#[test]
fn a_group_takes_any_protocol_type_when_it_is_empty_but_needs_one() {
    let mut group = Harness::new(&[]);
    for bad in [Join { protocol_type: "", ..Join::default() }, Join { protocols: vec![], ..Join::default() }] {
        assert_eq!(now(group.join(&bad)).error_code, ErrorCode::InconsistentGroupProtocol.code());
    }
    let connect = Join {
        protocol_type: "connect",
        protocols: vec![("sessioned", Bytes::from_static(b"\0\x01?"))],
        ..Join::default()
    };
    let (id, generation) = group.join_and_sync(&connect);
    assert_eq!(group.heartbeat(&id, generation), Ok(()));
    assert!(!group.classic().is_subscribed("t"));
}

#[test]
fn a_silent_member_is_removed_and_the_group_goes_on() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    group.advance(6_000);
    assert_eq!(group.heartbeat(&leader, generation), Ok(()));
    group.advance(6_000);
    assert_eq!(group.heartbeat(&leader, generation), Err(ErrorCode::RebalanceInProgress));
    let joined = now(group.join(&Join { id: leader, ..Join::default() }));
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 1));
    assert!(!group.classic().members.contains_key(&*follower));
}

#[test]
fn an_empty_group_has_a_generation_of_its_own() {
    let mut group = Harness::new(&[]);
    let (id, generation) = group.join_and_sync(&Join::default());
    assert_eq!(group.leave(&[(&id, None)]), [Ok(())]);
    assert_eq!((group.classic().state, group.classic().generation), (State::Empty, generation + 1));
    assert_eq!(group.leave(&[(&id, None)]), [Err(ErrorCode::UnknownMemberId)]);
    let (_, next) = group.join_and_sync(&Join::default());
    assert_eq!(next, generation + 2);
}

#[test]
fn a_member_that_joins_but_never_syncs_is_removed() {
    let mut group = Harness::new(&[]);
    let (a, first) = group.join_twice(&Join::default());
    let (b, second) = group.join_twice(&Join::default());
    group.advance(0);
    let (first, second) = (now(first), now(second));
    let (leader, follower) = if *first.leader == *a { (a, b) } else { (b, a) };
    drop(second);
    now(group.sync(&leader, 1, &[]));
    for _ in 0..13 {
        group.advance(5_000);
        let _ = (group.heartbeat(&leader, 1), group.heartbeat(&follower, 1));
    }
    assert!(!group.classic().members.contains_key(&*follower));
    assert_eq!(group.heartbeat(&leader, 1), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_client_that_vanishes_in_its_first_join_is_noticed() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let (ghost, waiting) = group.join_twice(&Join { rebalance_ms: 1_000_000, ..Join::default() });
    drop(waiting);
    let mut rejoined = group.join(&Join { id: leader, ..Join::default() });
    for second in 0..60 {
        assert!(group.classic().members.contains_key(&*ghost), "gone after {second} times 5 s");
        group.advance(5_000);
        let _ = group.heartbeat(&follower, generation);
    }
    assert!(!group.classic().members.contains_key(&*ghost));
    assert!(waits(&mut rejoined));
}

#[test]
fn leaving_is_by_id_by_instance_or_both_and_in_batches() {
    let mut group = Harness::new(&[]);
    let join = Join { instance: Some("i"), ..Join::default() };
    let first = group.join(&join);
    let (dynamic, _second) = group.join_twice(&Join::default());
    group.advance(0);
    let owner = now(first).member_id.to_string();
    let pending = now(group.join(&Join::default())).member_id.to_string();
    let results = group.leave(&[
        ("", Some("unknown")),
        ("", None),
        ("other", Some("i")),
        ("nobody", None),
        (&pending, None),
        (&dynamic, None),
        ("", Some("i")),
    ]);
    use ErrorCode::{FencedInstanceId, UnknownMemberId};
    let expected = [
        Err(UnknownMemberId),
        Err(UnknownMemberId),
        Err(FencedInstanceId),
        Err(UnknownMemberId),
        Ok(()),
        Ok(()),
        Ok(()),
    ];
    assert_eq!(results, expected, "{owner}");
    assert_eq!(group.classic().state, State::Empty);
}

#[test]
fn the_size_of_a_group_is_limited() {
    let mut group = Harness::new(&[]);
    group.settings.max_size = 1;
    let (id, _) = group.join_and_sync(&Join::default());
    let refused = now(group.join(&Join::default()));
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
    assert_eq!(now(group.join(&Join { id, ..Join::default() })).error_code, 0);
}

#[test]
fn a_member_that_loses_its_answer_hears_the_same_generation_again() {
    let mut group = Harness::new(&[]);
    let (id, first) = group.join_twice(&Join::default());
    group.advance(0);
    let first = now(first);
    let again = now(group.join(&Join { id: id.clone(), ..Join::default() }));
    assert_eq!(again, first);
    let mut changed = group.join(&Join { id, protocols: vec![("range", consumer(&["u"]))], ..Join::default() });
    assert!(!waits(&mut changed), "alone, so the next generation begins at once");
    assert_eq!(group.classic().generation, 2);
}

#[test]
fn state_survives_a_restart_with_fresh_sessions() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    group.advance(9_000);
    group.restart();
    assert_eq!((group.classic().state, group.classic().generation), (State::Stable, generation));
    assert_eq!(group.classic().leader.as_deref(), Some(&*leader));
    group.advance(9_000);
    for id in [&leader, &follower] {
        assert_eq!(group.heartbeat(id, generation), Ok(()));
    }
    assert_eq!(now(group.sync(&follower, generation, &[])).assignment, "F");
    assert!(group.classic().is_subscribed("t") && !group.classic().is_subscribed("u"));
}

#[test]
fn a_generation_that_was_handed_out_is_never_handed_out_again() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let first = group.join(&Join { id: leader.clone(), ..Join::default() });
    let second = group.join(&Join { id: follower.clone(), ..Join::default() });
    assert_eq!((now(first).generation_id, now(second).generation_id), (generation + 1, generation + 1));
    // Down before the leader assigned.
    group.restart();
    assert_eq!(group.heartbeat(&leader, generation + 1), Err(ErrorCode::RebalanceInProgress));
    let first = group.join(&Join { id: leader, ..Join::default() });
    let second = group.join(&Join { id: follower, ..Join::default() });
    assert_eq!((now(first).generation_id, now(second).generation_id), (generation + 2, generation + 2));
    group.restart();
    assert_eq!(group.classic().generation, generation + 2);
}

#[test]
fn commits_are_for_members_of_the_generation_or_for_nobodys_groups() {
    let mut group = Harness::new(&[]);
    assert_eq!(group.commit("", -1, 8), Ok(()), "a consumer that assigns itself");
    let (leader, _, generation) = pair(&mut group);
    let cases = [
        (&*leader, generation, Ok(())),
        (&*leader, generation - 1, Err(ErrorCode::IllegalGeneration)),
        ("nobody", generation, Err(ErrorCode::UnknownMemberId)),
        ("", -1, Err(ErrorCode::UnknownMemberId)),
    ];
    for (id, epoch, expected) in cases {
        assert_eq!(group.commit(id, epoch, 8), expected, "{id} {epoch}");
    }
    group.advance(9_000);
    group.commit(&leader, generation, 8).expect("a commit keeps the session");
    group.advance(9_000);
    assert!(group.classic().members.contains_key(&*leader));
}

#[test]
fn commits_while_the_group_rebalances() {
    let mut group = Harness::new(&[]);
    let (leader, follower, generation) = pair(&mut group);
    let first = group.join(&Join { id: leader.clone(), ..Join::default() });
    assert_eq!(group.commit(&follower, generation, 8), Ok(()), "what it worked on is not lost");
    drop((first, group.join(&Join { id: follower.clone(), ..Join::default() })));
    assert_eq!(group.commit(&follower, generation, 8), Err(ErrorCode::IllegalGeneration));
    assert_eq!(group.commit(&follower, generation + 1, 8), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn groups_that_are_not_there_refuse_commits_by_version() {
    for (version, code) in [(8, ErrorCode::IllegalGeneration), (9, ErrorCode::GroupIdNotFound)] {
        assert_eq!(Harness::new(&[]).commit("m", 3, version), Err(code));
    }
}

#[test]
fn a_session_is_as_long_as_the_member_says() {
    let mut group = Harness::new(&[]);
    let (id, _) = group.join_and_sync(&Join { session_ms: 12_345, ..Join::default() });
    let deadline = group.timers.deadline(&Timer::Session(id.as_str().into())).expect("runs");
    assert_eq!((deadline - group.now).as_millis(), 12_345);
}
