//! A share group of many members over TCP: assignments come to rest within seconds, records flow, and each is accepted
//! once, while members come, go and die. At most 300 members: a partition is shared, so it has many of them anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{GroupId, ShareGroupDescribeRequest, ShareGroupHeartbeatRequest};
use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest;
use krocket_protocol::share_fetch::ShareFetchRequest;
use krocket_testkit::Krocket;
use krocket_testkit::session::Session;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::flow::produce;
use crate::{End, PATIENCE, create, size, text, topic};

const GROUP: &str = "share";
const ACCEPT: i8 = 1;
/// Every heartbeat of everybody has come at least so many times over.
const CALM: u32 = 3;

type Place = (i32, i64);

/// What all members together know.
#[derive(Default)]
struct Board {
    assigned: BTreeMap<usize, BTreeSet<i32>>,
    held: BTreeMap<Place, usize>,
    accepted: BTreeMap<Place, usize>,
    changes: u64,
    last_change: Option<Instant>,
}

struct World {
    address: SocketAddr,
    topic_id: Uuid,
    partitions: i32,
    interval: Duration,
    board: Mutex<Board>,
    changed: Notify,
}

struct Member {
    number: usize,
    world: Arc<World>,
    session: Session,
    epoch: i32,
    fetch_epoch: i32,
    partitions: BTreeSet<i32>,
    forgotten: BTreeSet<i32>,
    next_beat: Instant,
}

impl Member {
    async fn run(number: usize, world: Arc<World>, mut end: oneshot::Receiver<End>) {
        let session = Session::connect(world.address).await.expect("connects").patient(PATIENCE);
        let (partitions, forgotten) = (BTreeSet::new(), BTreeSet::new());
        let next_beat = Instant::now();
        let mut member = Member { number, world, session, epoch: 0, fetch_epoch: 0, partitions, forgotten, next_beat };
        member.beat().await;
        loop {
            if let Ok(how) = end.try_recv() {
                return member.end(how).await;
            }
            if member.next_beat <= Instant::now() {
                member.beat().await;
            }
            if member.partitions.is_empty() {
                tokio::time::sleep(member.world.interval / 4).await;
            } else {
                member.fetch().await;
            }
        }
    }

    fn id(&self) -> String {
        format!("member-{}", self.number)
    }

    async fn beat(&mut self) {
        let names = (self.epoch == 0).then(|| vec![topic()]);
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(&self.id()))
            .with_member_epoch(self.epoch)
            .with_subscribed_topic_names(names);
        let response = self.session.call(1, &request).await.expect("an answer");
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        self.epoch = response.member_epoch;
        self.next_beat = Instant::now() + Duration::from_millis(response.heartbeat_interval_ms as u64);
        let Some(assignment) = response.assignment else { return };
        let partitions: BTreeSet<i32> =
            assignment.topic_partitions.into_iter().flat_map(|one| one.partitions).collect();
        if partitions == self.partitions {
            return;
        }
        let gone = std::mem::replace(&mut self.partitions, partitions.clone());
        self.forgotten = gone.difference(&self.partitions).copied().collect();
        let mut board = self.world.board.lock();
        board.assigned.insert(self.number, partitions);
        board.changes += 1;
        board.last_change = Some(Instant::now());
        self.world.changed.notify_waiters();
    }

    /// Takes records and accepts them.
    async fn fetch(&mut self) {
        let topic = FetchTopic::default().with_topic_id(self.world.topic_id);
        let wanted = self.partitions.iter().map(|index| FetchPartition::default().with_partition_index(*index));
        let forgotten: Vec<i32> = std::mem::take(&mut self.forgotten).into_iter().collect();
        let forgotten = ForgottenTopic::default().with_topic_id(self.world.topic_id).with_partitions(forgotten);
        let request = ShareFetchRequest {
            group_id: Some(text(GROUP)),
            member_id: Some(text(&self.id())),
            share_session_epoch: self.fetch_epoch,
            max_wait_ms: (self.world.interval / 2).as_millis() as i32,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 10,
            batch_size: 10,
            topics: vec![topic.with_partitions(wanted.collect())],
            forgotten_topics_data: if forgotten.partitions.is_empty() { Vec::new() } else { vec![forgotten] },
            ..ShareFetchRequest::default()
        };
        let response = self.session.call(2, &request).await.expect("an answer").0;
        assert_eq!(response.error_code, 0, "ShareFetch of {} at epoch {}", self.id(), self.fetch_epoch);
        self.fetch_epoch += 1;
        let taken: Vec<PartitionData> = response.responses.into_iter().flat_map(|topic| topic.partitions).collect();
        let runs = taken.iter().flat_map(|data| data.acquired_records.iter().map(|run| (data.partition_index, run)));
        let runs: Vec<_> = runs.map(|(index, run)| (index, run.first_offset, run.last_offset)).collect();
        if runs.is_empty() {
            return;
        }
        let places = runs.iter().flat_map(|(index, first, last)| (*first..=*last).map(|offset| (*index, offset)));
        let places: Vec<Place> = places.collect();
        self.hold(&places);
        self.accept(&runs).await;
        let mut board = self.world.board.lock();
        for place in places {
            board.held.remove(&place);
            *board.accepted.entry(place).or_default() += 1;
        }
        self.world.changed.notify_waiters();
    }

    /// Nobody else has them.
    fn hold(&self, places: &[Place]) {
        let mut board = self.world.board.lock();
        for place in places {
            assert_eq!(board.accepted.get(place), None, "{place:?} was accepted, and is given to {}", self.id());
            let before = board.held.insert(*place, self.number);
            assert_eq!(before, None, "{place:?} is held by another one, and is given to {}", self.id());
        }
    }

    async fn accept(&mut self, runs: &[(i32, i64, i64)]) {
        let mut partitions: BTreeMap<i32, Vec<AcknowledgementBatch>> = BTreeMap::new();
        for (index, first, last) in runs {
            let batch = AcknowledgementBatch::default().with_first_offset(*first).with_last_offset(*last);
            partitions.entry(*index).or_default().push(batch.with_acknowledge_types(vec![ACCEPT]));
        }
        let partition = |(index, batches)| {
            AcknowledgePartition::default().with_partition_index(index).with_acknowledgement_batches(batches)
        };
        let topic = AcknowledgeTopic::default().with_topic_id(self.world.topic_id);
        let request = ShareAcknowledgeRequest {
            group_id: Some(text(GROUP)),
            member_id: Some(text(&self.id())),
            share_session_epoch: self.fetch_epoch,
            topics: vec![topic.with_partitions(partitions.into_iter().map(partition).collect())],
            ..ShareAcknowledgeRequest::default()
        };
        let response = self.session.call(2, &request).await.expect("an answer");
        assert_eq!(response.error_code, 0, "ShareAcknowledge of {}", self.id());
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        assert!(partitions.into_iter().all(|one| one.error_code == 0), "ShareAcknowledge of {}", self.id());
        self.fetch_epoch += 1;
    }

    async fn end(mut self, how: End) {
        self.world.board.lock().assigned.remove(&self.number);
        if how == End::Leave {
            let request = ShareGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text(GROUP)))
                .with_member_id(text(&self.id()))
                .with_member_epoch(-1);
            let response = self.session.call(1, &request).await.expect("an answer");
            assert_eq!(response.error_code, 0, "leaving");
        }
    }
}

struct Group {
    krocket: Krocket,
    world: Arc<World>,
    members: Vec<(oneshot::Sender<End>, JoinHandle<()>)>,
    next: usize,
    producer: Session,
    written: BTreeMap<i32, i64>,
}

impl Group {
    async fn start(members: usize) -> Self {
        let interval = Duration::from_millis(500);
        let krocket = Krocket::start_with(|config| {
            let mut set = |name: &str, value: u128| config.kafka.insert(name.to_owned(), value.to_string());
            set("group.share.min.heartbeat.interval.ms", interval.as_millis());
            set("group.share.heartbeat.interval.ms", interval.as_millis());
            set("group.share.min.session.timeout.ms", 8_000);
            set("group.share.session.timeout.ms", 8_000);
            set("group.share.max.size", members as u128 * 2);
        })
        .await;
        let partitions = (members / 10) as i32;
        let mut producer = Session::connect(krocket.kafka).await.expect("connects");
        let topic_id = create(&mut producer, partitions).await;
        let (address, board, changed) = (krocket.kafka, Mutex::default(), Notify::new());
        let world = Arc::new(World { address, topic_id, partitions, interval, board, changed });
        // A group begins at the end of what is there.
        Group { krocket, world, members: Vec::new(), next: 0, producer, written: BTreeMap::new() }
    }

    fn add(&mut self, count: usize) {
        for number in self.next..self.next + count {
            let (end, ended) = oneshot::channel();
            self.members.push((end, tokio::spawn(Member::run(number, self.world.clone(), ended))));
        }
        self.next += count;
    }

    async fn end(&mut self, how: End, count: usize) {
        let leaving: Vec<_> = self.members.drain(..count).map(|(end, task)| (end.send(how), task)).collect();
        for (told, task) in leaving {
            assert_eq!(told, Ok(()), "the member is there");
            task.await.expect("a member does not panic");
        }
    }

    /// Waits until everybody has partitions and each of them has somebody; then nothing moves any more.
    async fn settle(&mut self, what: &str) {
        let start = Instant::now();
        let world = self.world.clone();
        let settled = |members: usize| {
            let board = world.board.lock();
            let all: BTreeSet<i32> = board.assigned.values().flatten().copied().collect();
            let everybody = board.assigned.values().filter(|partitions| !partitions.is_empty()).count();
            everybody == members && all.len() == world.partitions as usize
        };
        self.until(what, || settled(self.members.len())).await;
        // The last heartbeats may still bring changes: it is calm when several have brought none.
        loop {
            let before = self.world.board.lock().changes;
            tokio::time::sleep(self.world.interval * CALM).await;
            let calm = self.world.board.lock().changes == before && settled(self.members.len());
            // Those who died are members until their sessions end.
            if calm && self.state().await == ("Stable".to_owned(), self.members.len()) {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: assignments keep moving");
        }
        let last = self.world.board.lock().last_change.expect("somebody has partitions");
        let took = last.saturating_duration_since(start);
        println!("share: {what}: settled after {:.2} s", took.as_secs_f64());
        assert!(took < Duration::from_secs(30), "{what}: settled only after {took:?}");
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            if let Some((_, gone)) = self.members.iter().find(|(_, task)| task.is_finished()) {
                panic!("{what}: a member panicked: {gone:?}");
            }
            let changed = self.world.changed.notified();
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }

    /// Writes so many records to each partition, and waits until each was accepted once.
    async fn flow(&mut self, what: &str, records: usize) {
        let start = Instant::now();
        for (partition, base) in produce(&mut self.producer, self.world.partitions, records).await {
            self.written.insert(partition, base + records as i64);
        }
        let all: i64 = self.written.values().sum();
        let world = self.world.clone();
        self.until(what, || world.board.lock().accepted.len() as i64 >= all).await;
        let count = records * self.world.partitions as usize;
        println!("share: {what}: {count} records accepted after {:.2} s", start.elapsed().as_secs_f64());
    }

    async fn state(&mut self) -> (String, usize) {
        let request = ShareGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(GROUP))]);
        let response = self.producer.call(1, &request).await.expect("an answer");
        (response.groups[0].group_state.to_string(), response.groups[0].members.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_group_of_many_members_rolls() {
    let count = size().min(300);
    let mut group = Group::start(count).await;
    group.add(count);
    group.settle(&format!("{count} members arrive")).await;
    group.flow("the first records", 100).await;
    for wave in 1..=5 {
        group.end(End::Leave, count / 10).await;
        group.add(count / 10);
        group.settle(&format!("wave {wave}")).await;
        group.flow(&format!("records of wave {wave}"), 100).await;
    }
    group.end(End::Die, count / 20).await;
    group.flow("records while the dead are still members", 100).await;
    group.settle("some have died").await;
    group.flow("the last records", 100).await;
    group.end(End::Leave, group.members.len()).await;
    let board = std::mem::take(&mut *group.world.board.lock());
    assert!(board.accepted.values().all(|times| *times == 1), "something was accepted twice");
    assert_eq!(board.accepted.len() as i64, group.written.values().sum::<i64>());
    group.krocket.stop().await;
}
