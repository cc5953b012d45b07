//! Clients that join, change their minds, are slow, lose answers, die and come back, in any order: no partition is ever
//! in two hands, and in the end each is in one.

use std::collections::{BTreeMap, BTreeSet};

use krocket_protocol::ErrorCode;
use proptest::prelude::*;

use crate::group::testing::{Beat, Harness, assigned};

const TOPICS: [&str; 3] = ["t0", "t1", "t2"];
const INSTANCES: [&str; 5] = ["i0", "i1", "i2", "i3", "i4"];
const CLIENTS: usize = 5;

type Owned = BTreeSet<(&'static str, i32)>;

/// A client as it sees itself.
#[derive(Default)]
struct Client {
    incarnation: u32,
    alive: bool,
    epoch: i32,
    subscribed: Vec<&'static str>,
    owned: Owned,
    /// What it was told to have, but has not acted on.
    told: Option<Owned>,
    /// It is not sure of anything: the last answer did not come.
    unsure: bool,
    changed: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, topics: u8 },
    Beat { client: usize, slow: bool, lost: bool },
    Subscribe { client: usize, topics: u8 },
    Leave { client: usize },
    LeaveForAWhile { client: usize },
    Die { client: usize },
    Grow { topic: usize },
    Restart,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        4 => (client.clone(), 1u8..8).prop_map(|(client, topics)| Step::Join { client, topics }),
        16 => (client.clone(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(client, slow, lost)| Step::Beat { client, slow, lost }),
        2 => (client.clone(), 0u8..8).prop_map(|(client, topics)| Step::Subscribe { client, topics }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        1 => client.clone().prop_map(|client| Step::LeaveForAWhile { client }),
        1 => client.prop_map(|client| Step::Die { client }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Grow { topic }),
        1 => Just(Step::Restart),
        2 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

struct World {
    group: Harness,
    clients: Vec<Client>,
    partitions: BTreeMap<&'static str, i32>,
    /// Clients with an instance id are static members.
    is_static: bool,
    highest_epoch: i32,
}

fn topics(mask: u8) -> Vec<&'static str> {
    (0..).zip(TOPICS).filter(|(n, _)| mask & (1 << n) != 0).map(|(_, topic)| topic).collect()
}

impl World {
    fn new(is_static: bool) -> Self {
        World {
            group: Harness::new(&TOPICS.map(|topic| (topic, 3))),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            partitions: TOPICS.map(|topic| (topic, 3)).into(),
            is_static,
            highest_epoch: 0,
        }
    }

    fn id(&self, client: usize) -> String {
        format!("c{client}-{}", self.clients[client].incarnation)
    }

    fn instance(&self, client: usize) -> Option<&'static str> {
        self.is_static.then_some(INSTANCES[client])
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Join { client, topics: mask } => {
                if !self.clients[client].alive {
                    let state = &mut self.clients[client];
                    *state = Client {
                        incarnation: state.incarnation + 1,
                        alive: true,
                        subscribed: topics(mask),
                        ..Client::default()
                    };
                    self.beat(client, false, false);
                }
            }
            Step::Beat { client, slow, lost } => self.beat(client, slow, lost),
            Step::Subscribe { client, topics: mask } => {
                let state = &mut self.clients[client];
                state.subscribed = topics(mask);
                state.changed = true;
            }
            Step::Leave { client } => self.leave(client, -1),
            Step::LeaveForAWhile { client } => self.leave(client, if self.is_static { -2 } else { -1 }),
            Step::Die { client } => {
                self.clients[client].alive = false;
                self.clients[client].owned.clear();
            }
            Step::Grow { topic } => {
                let count = self.partitions.entry(TOPICS[topic]).or_default();
                *count += 1;
                self.group.topics.set(TOPICS[topic], *count);
            }
            Step::Restart => self.group.restart(),
            Step::Wait => self.wait(1),
        }
        self.check();
    }

    fn leave(&mut self, client: usize, epoch: i32) {
        if self.clients[client].alive {
            let beat = Beat { instance: self.instance(client), ..Beat::at(&self.id(client), epoch) };
            let _ = self.group.beat(&beat);
            self.clients[client].alive = false;
            self.clients[client].owned.clear();
        }
    }

    /// Everybody acts on what it was told and is heard of, every five seconds.
    fn wait(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for client in 0..CLIENTS {
                self.beat(client, false, false);
                self.check();
            }
            self.group.advance(5_000);
        }
    }

    fn beat(&mut self, client: usize, slow: bool, lost: bool) {
        let (id, instance) = (self.id(client), self.instance(client));
        let state = &mut self.clients[client];
        if !state.alive {
            return;
        }
        if let Some(told) = state.told.take_if(|_| !slow) {
            state.owned = told;
        }
        let mut beat = Beat { instance, ..Beat::at(&id, state.epoch) };
        if state.epoch == 0 {
            state.owned.clear();
            state.told = None;
            beat = Beat { instance, ..Beat::join(&id, &state.subscribed) };
        } else {
            if state.unsure || state.changed {
                beat.topics = Some(state.subscribed.clone());
                beat.rebalance_ms = Some(30_000);
            }
            beat.owned = Some(Vec::new());
            for topic in TOPICS {
                let partitions: Vec<i32> = state.owned.iter().filter(|(t, _)| *t == topic).map(|(_, p)| *p).collect();
                beat = beat.owning(topic, &partitions);
            }
        }
        let result = self.group.beat(&beat);
        let state = &mut self.clients[client];
        match result {
            _ if lost => state.unsure = true,
            Ok(answer) => {
                assert!(answer.member_epoch >= state.epoch, "epochs only grow");
                self.highest_epoch = self.highest_epoch.max(answer.member_epoch);
                state.epoch = answer.member_epoch;
                (state.unsure, state.changed) = (false, false);
                if answer.assignment.is_some() {
                    let partitions = |topic: &'static str| {
                        let partitions = assigned(&answer, topic).unwrap_or_default();
                        partitions.into_iter().map(move |partition| (topic, partition))
                    };
                    state.told = Some(TOPICS.into_iter().flat_map(partitions).collect());
                }
            }
            Err(refusal) => {
                let codes = [
                    ErrorCode::UnknownMemberId,
                    ErrorCode::FencedMemberEpoch,
                    ErrorCode::UnreleasedInstanceId,
                    ErrorCode::GroupIdNotFound,
                ];
                assert!(codes.contains(&refusal.code), "{refusal}");
                state.owned.clear();
                state.told = None;
                state.epoch = 0;
            }
        }
    }

    fn check(&self) {
        let mut holders: BTreeMap<(&str, i32), usize> = BTreeMap::new();
        for (number, client) in self.clients.iter().enumerate() {
            for partition in &client.owned {
                let other = holders.insert(*partition, number);
                assert!(other.is_none(), "{partition:?} is in the hands of {number} and {other:?}");
            }
        }
    }

    /// In the end every partition that somebody reads is with one who reads it.
    fn finish(&mut self) {
        self.wait(25);
        let mut expected: BTreeSet<(&str, i32)> = BTreeSet::new();
        for client in self.clients.iter().filter(|client| client.alive) {
            for topic in &client.subscribed {
                expected.extend((0..self.partitions[topic]).map(|partition| (*topic, partition)));
            }
            assert!(client.owned.iter().all(|(topic, _)| client.subscribed.contains(topic)));
        }
        let held: BTreeSet<_> = self.clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
        assert_eq!(held, expected);
        if self.clients.iter().any(|client| client.alive) {
            assert_eq!(self.group.consumer().state(), "Stable");
            assert_eq!(self.group.consumer().epoch, self.highest_epoch.max(self.group.consumer().epoch));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_is_ever_in_two_hands(steps in steps(), is_static: bool) {
        let mut world = World::new(is_static);
        for step in &steps {
            world.run(step);
        }
        world.finish();
    }
}
