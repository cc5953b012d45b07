//! Static members (KIP-345).

use kafka_protocol::messages::SyncGroupRequest;
use krocket_protocol::ErrorCode;

use super::State;
use super::tests::consumer;
use crate::group::context::text;
use crate::group::testing::{Harness, Join, now};

#[test]
fn a_static_member_that_restarts_takes_its_place_without_a_rebalance() {
    for (version, leads, skips) in [(8, false, false), (9, true, true)] {
        let mut group = Harness::new(&[]);
        let join = Join { instance: Some("i"), version, ..Join::default() };
        let first = group.join(&join);
        group.advance(0);
        let first = now(first);
        now(group.sync(&first.member_id, 1, &[(&first.member_id, b"mine")]));
        let second = now(group.join(&join));
        assert_eq!((second.error_code, second.generation_id, group.classic().state), (0, 1, State::Stable));
        assert_ne!(second.member_id, first.member_id);
        assert_eq!(second.leader == second.member_id, leads, "version {version}");
        assert_eq!(second.skip_assignment, skips);
        assert_eq!(now(group.sync(&second.member_id, 1, &[])).assignment, "mine");
        // The old one is fenced, with its instance id or without.
        let old = &first.member_id;
        assert_eq!(group.heartbeat(old, 1), Err(ErrorCode::UnknownMemberId));
        let with_instance = group.step(|state, ctx| state.heartbeat(ctx, old, Some("i"), 1));
        assert_eq!(with_instance, Err(ErrorCode::FencedInstanceId));
        let rejoin = now(group.join(&Join { id: old.to_string(), ..join.clone() }));
        assert_eq!(rejoin.error_code, ErrorCode::FencedInstanceId.code());
        let sync = SyncGroupRequest::default()
            .with_member_id(old.clone())
            .with_generation_id(1)
            .with_group_instance_id(Some(text("i")));
        assert_eq!(now(group.sync_with(&sync)).error_code, ErrorCode::FencedInstanceId.code());
    }
}

#[test]
fn a_static_member_that_restarts_costs_the_same_in_a_group_of_any_size() {
    const INSTANCES: [&str; 5] = ["i0", "i1", "i2", "i3", "i4"];
    let mut group = Harness::new(&[]);
    group.settings.initial_rebalance_delay_ms = 300;
    let join = |instance| Join { instance: Some(instance), ..Join::default() };
    let answers = INSTANCES.map(|instance| group.join(&join(instance)));
    group.advance(600);
    let ids = answers.map(|answer| now(answer).member_id.to_string());
    let leader = group.classic().leader.clone().expect("a leader");
    let assignments: Vec<(&str, &[u8])> = ids.iter().map(|id| (&**id, &b"mine"[..])).collect();
    let _ = now(group.sync(&leader, 1, &assignments));

    let before = group.rows_written;
    let second = now(group.join(&join("i3")));
    assert_eq!(group.rows_written - before, 3, "the group, who is gone, who came");
    let members = group.classic().members.keys().cloned().collect::<Vec<_>>();
    group.restart();
    assert_eq!(group.classic().members.keys().cloned().collect::<Vec<_>>(), members);
    assert_eq!((group.classic().state, group.classic().generation), (State::Stable, 1));
    assert_eq!(now(group.sync(&second.member_id, 1, &[])).assignment, "mine");

    // Nothing stays in the log once all are gone.
    for instance in INSTANCES {
        assert_eq!(group.leave(&[("", Some(instance))]), [Ok(())]);
    }
    group.step(|state, ctx| state.forget(ctx));
    assert!(group.journal.tables.lock().is_empty(), "{:?}", group.journal.tables.lock().keys());
}

#[test]
fn a_static_member_fences_its_double_that_waits() {
    let mut group = Harness::new(&[]);
    group.settings.initial_rebalance_delay_ms = 300;
    let join = Join { instance: Some("i"), ..Join::default() };
    let first = group.join(&join);
    let second = group.join(&join);
    assert_eq!(now(first).error_code, ErrorCode::FencedInstanceId.code());
    group.advance(300);
    assert_eq!(now(second).error_code, 0);
    assert_eq!(group.classic().members.len(), 1);
}

#[test]
fn static_members_may_miss_a_rebalance_but_not_their_session() {
    let mut group = Harness::new(&[]);
    let (a, first) = group.join_twice(&Join { rebalance_ms: 7_000, ..Join::default() });
    let second = group.join(&Join { instance: Some("i"), session_ms: 30_000, rebalance_ms: 7_000, ..Join::default() });
    group.advance(0);
    let (first, second) = (now(first), now(second));
    let leader = first.leader.to_string();
    now(group.sync(&leader, 1, &[]));
    // The dynamic one asks for a rebalance; the static one is away.
    let rejoined = group.join(&Join {
        id: a.clone(),
        rebalance_ms: 7_000,
        protocols: vec![("range", consumer(&["u"]))],
        ..Join::default()
    });
    group.advance(7_000);
    assert_eq!(now(rejoined).generation_id, 2);
    assert!(group.classic().members.contains_key(&*second.member_id), "it is still a member");
    assert_eq!(group.heartbeat(&a, 2), Ok(()));
}
