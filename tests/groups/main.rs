//! K5 under stress: groups of many members, of both protocols, that roll, die, migrate and come back while records flow.
//! No partition is ever in two hands, and each owner goes on where the one before it committed.
//!
//! `make test` plays with 100 members, `make stress` with 1000 (`KROCKET_STRESS_MEMBERS`), on as many partitions.

#![allow(clippy::print_stdout)]

mod classic;
mod consumer;
mod flow;
mod ledger;
mod reader;
mod share;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, ListGroupsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use krocket_testkit::Krocket;
use krocket_testkit::session::Session;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use flow::Flow;
use ledger::{Ledger, Number};
use reader::{Reader, offset_fetch};

/// What must happen within this time happens, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(180);

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

/// The protocol that a member speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Consumer,
    Cooperative,
    Eager,
}

/// How a member ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Leave,
    /// Without a word.
    Die,
    /// As a static member that will be back.
    Restart,
}

/// What all members know.
struct World {
    address: SocketAddr,
    group: String,
    topic_id: Uuid,
    partitions: i32,
    interval: Duration,
    session: Duration,
    ledger: Ledger,
}

struct Member {
    kind: Kind,
    instance: Option<String>,
    end: oneshot::Sender<End>,
    task: JoinHandle<()>,
}

/// A group with its server and its records.
struct Group {
    krocket: Krocket,
    world: Arc<World>,
    members: Vec<Member>,
    next: Number,
    flow: Flow,
    began: Instant,
}

fn size() -> usize {
    let size = std::env::var("KROCKET_STRESS_MEMBERS").ok();
    size.map_or(100, |text| text.parse().unwrap_or_else(|_| panic!("not a number: {text}")))
}

async fn create(session: &mut Session, partitions: i32) -> Uuid {
    let topic = CreatableTopic::default().with_name(topic()).with_num_partitions(partitions).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(60_000);
    let response = session.call(7, &request).await.expect("an answer");
    assert_eq!(response.topics[0].error_code, 0, "CreateTopics");
    response.topics[0].topic_id
}

impl Group {
    async fn start(name: &str) -> Self {
        let partitions = size() as i32;
        let long = partitions > 100;
        let interval = Duration::from_millis(if long { 1000 } else { 250 });
        // Longer than this busy machine ever holds a member up: one that is alive must not lose its place.
        let session = Duration::from_secs(if long { 30 } else { 8 });
        let krocket = Krocket::start_with(|config| {
            let mut set =
                |name: &str, value: Duration| config.kafka.insert(name.to_owned(), value.as_millis().to_string());
            set("group.consumer.min.heartbeat.interval.ms", interval);
            set("group.consumer.heartbeat.interval.ms", interval);
            set("group.consumer.min.session.timeout.ms", session);
            set("group.consumer.session.timeout.ms", session);
        })
        .await;
        let topic_id = create(&mut Session::connect(krocket.kafka).await.expect("connects"), partitions).await;
        let world = Arc::new(World {
            address: krocket.kafka,
            group: name.to_owned(),
            topic_id,
            partitions,
            interval,
            session,
            ledger: Ledger::new(partitions),
        });
        let flow = Flow::start(world.clone()).await;
        Group { krocket, world, members: Vec::new(), next: 0, flow, began: Instant::now() }
    }

    fn add(&mut self, kind: Kind, instance: Option<String>) {
        let (end, ended) = oneshot::channel();
        let (number, world, name) = (self.next, self.world.clone(), instance.clone());
        self.next += 1;
        let task = tokio::spawn(async move {
            let reader = Reader::new(number, world).await;
            match kind {
                Kind::Consumer => consumer::run(reader, name, ended).await,
                Kind::Cooperative => classic::run(reader, true, name, ended).await,
                Kind::Eager => classic::run(reader, false, name, ended).await,
            }
        });
        self.members.push(Member { kind, instance, end, task });
    }

    fn add_many(&mut self, kind: Kind, count: usize) {
        for _ in 0..count {
            self.add(kind, None);
        }
    }

    /// Ends the oldest members.
    async fn end(&mut self, how: End, count: usize) -> Vec<Member> {
        let mut ended = Vec::new();
        for member in self.members.drain(..count) {
            member.end.send(how).unwrap_or_else(|_| panic!("a {:?} member is there", member.kind));
            let (end, _) = oneshot::channel();
            ended.push(Member { end, ..member });
        }
        for member in &mut ended {
            (&mut member.task).await.expect("a member does not panic");
        }
        ended
    }

    /// Waits until each member has its share, and says how long that took; then until records flow.
    async fn settle(&mut self, what: &str) {
        let start = Instant::now();
        let count = self.members.len();
        loop {
            let changed = self.world.ledger.changed.notified();
            if self.world.ledger.is_settled(count) && self.state().await.0 == "Stable" {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {}", self.world.ledger.describe());
            // Whoever panicked is why.
            if let Some(gone) = self.members.iter().position(|member| member.task.is_finished()) {
                self.members.swap_remove(gone).task.await.expect("a member does not panic");
            }
            // The group's state changes without the ledger.
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
        let took = self.world.ledger.last_change().saturating_duration_since(start);
        println!("{}: {what}: settled after {:.2} s", self.world.group, took.as_secs_f64());
        self.flows(what).await;
    }

    /// Waits until what is written by now is read.
    async fn flows(&self, what: &str) {
        let start = Instant::now();
        let written = self.world.ledger.written();
        loop {
            let changed = self.world.ledger.changed.notified();
            if self.world.ledger.is_read_to(&written) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: records are left: {}", self.world.ledger.describe());
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }

    /// The group's state and type, as ListGroups has them.
    async fn state(&self) -> (String, String) {
        let mut session = Session::connect(self.world.address).await.expect("connects");
        let response = session.call(5, &ListGroupsRequest::default()).await.expect("an answer");
        let found = response.groups.iter().find(|group| *group.group_id.0 == *self.world.group);
        found.map(|group| (group.group_state.to_string(), group.group_type.to_string())).unwrap_or_default()
    }

    /// No more records: all are read, and committed where they end.
    async fn finish(mut self) {
        self.flow.stop().await;
        self.flows("the end").await;
        self.end(End::Leave, self.members.len()).await;
        let request = offset_fetch(&self.world, (0..self.world.partitions).collect());
        let mut session = Session::connect(self.world.address).await.expect("connects");
        let response = session.call(9, &request).await.expect("an answer");
        let committed: Vec<i64> =
            response.groups[0].topics[0].partitions.iter().map(|partition| partition.committed_offset).collect();
        assert_eq!(committed, self.world.ledger.written());
        let records = self.world.ledger.records();
        assert!(records >= i64::from(self.world.partitions), "only {records} records flowed");
        println!("{}: {records} records, {:.0} s", self.world.group, self.began.elapsed().as_secs_f64());
        self.krocket.stop().await;
    }
}

/// Everyone arrives at once, is replaced tenth by tenth, and some die.
async fn roll(name: &str, kind: Kind) {
    let mut group = Group::start(name).await;
    let count = size();
    group.add_many(kind, count);
    group.settle(&format!("{count} members arrive")).await;
    for wave in 1..=10 {
        group.end(End::Leave, count / 10).await;
        group.add_many(kind, count / 10);
        group.settle(&format!("wave {wave}")).await;
    }
    group.end(End::Die, count / 20).await;
    group.settle("some die").await;
    group.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_group_rolls() {
    roll("roll-consumer", Kind::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cooperative_group_rolls() {
    roll("roll-cooperative", Kind::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eager_group_rolls() {
    roll("roll-eager", Kind::Eager).await;
}

/// From the classic protocol to KIP-848's and back, a tenth at a time.
async fn migrate(name: &str, kind: Kind) {
    let mut group = Group::start(name).await;
    let count = size();
    group.add_many(kind, count);
    group.settle("classic").await;
    assert_eq!(group.state().await.1, "Classic");
    for (to, named) in [(Kind::Consumer, "Consumer"), (kind, "Classic")] {
        for wave in 1..=10 {
            group.end(End::Leave, count / 10).await;
            group.add_many(to, count / 10);
            group.settle(&format!("{wave} tenths are {to:?}")).await;
        }
        assert_eq!(group.state().await.1, named);
    }
    group.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cooperative_group_migrates_and_returns() {
    migrate("migrate-cooperative", Kind::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eager_group_migrates_and_returns() {
    migrate("migrate-eager", Kind::Eager).await;
}

/// Static members (KIP-345) go and come back: nobody else notices.
async fn stay(name: &str, kind: Kind) {
    let mut group = Group::start(name).await;
    let count = size();
    for n in 0..count {
        group.add(kind, Some(format!("instance-{n}")));
    }
    group.settle(&format!("{count} static members arrive")).await;
    let revoked = group.world.ledger.revoked();
    for wave in 1..=10 {
        for member in group.end(End::Restart, count / 10).await {
            group.add(kind, member.instance);
        }
        group.settle(&format!("static wave {wave}")).await;
    }
    assert_eq!(group.world.ledger.revoked(), revoked, "a restart within the session takes nothing from anybody");
    group.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_consumer_members_keep_their_place() {
    stay("static-consumer", Kind::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_classic_members_keep_their_place() {
    stay("static-cooperative", Kind::Cooperative).await;
    stay("static-eager", Kind::Eager).await;
}

/// Only what changes hands is revoked.
async fn move_little(name: &str, kind: Kind) {
    let mut group = Group::start(name).await;
    let count = size() / 5;
    group.add_many(kind, count);
    group.settle("arrive").await;
    let before = group.world.ledger.revoked();
    group.add(kind, None);
    group.settle("one more").await;
    let moved = group.world.ledger.revoked() - before;
    assert!(moved <= size().div_ceil(count + 1) as u64, "{moved} partitions were revoked for one new member");
    let before = group.world.ledger.revoked();
    group.end(End::Leave, 1).await;
    group.settle("one less").await;
    assert_eq!(group.world.ledger.revoked(), before, "nobody loses anything when a member leaves");
    group.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_is_never_revoked() {
    move_little("little-consumer", Kind::Consumer).await;
    move_little("little-cooperative", Kind::Cooperative).await;
}
