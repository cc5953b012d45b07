//! A share consumer that does everything a member may do, and writes down what it saw.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch as Said,
};
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch as SaidOnTheWay, FetchPartition, FetchTopic};
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{GroupId, ShareGroupHeartbeatRequest, TopicName};
use krocket_protocol::records::{BatchHeader, Records};
use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest;
use krocket_protocol::share_fetch::ShareFetchRequest;
use krocket_testkit::session::Session;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use uuid::Uuid;

use crate::history::{Delivery, History, Place, Verdict, Word};
use crate::wire::{now_us, text};
use crate::{PARTITIONS, TOPIC};

/// Longest wait of a fetch, ms.
pub(crate) const WAIT_MS: i32 = 200;
const LIMIT: usize = 64 << 20;

/// Where the server is, and whether members are only to accept.
pub(crate) type World = Option<(SocketAddr, bool)>;

pub(crate) struct Member {
    group: &'static str,
    name: String,
    /// Grows when it comes back as somebody else.
    life: u32,
    topic: Uuid,
    rng: StdRng,
    history: Arc<Mutex<History>>,
    epoch: i32,
    held: Vec<Place>,
    drains: bool,
}

impl Member {
    pub(crate) fn new(group: &'static str, at: u32, topic: Uuid, seed: u64, history: Arc<Mutex<History>>) -> Self {
        let (name, rng) = (format!("{group}-{at}"), StdRng::seed_from_u64(seed));
        Member { group, name, life: 0, topic, rng, history, epoch: 0, held: Vec::new(), drains: false }
    }

    fn id(&self) -> String {
        format!("{}-{}", self.name, self.life)
    }

    /// Works whenever there is a server, until the world ends.
    pub(crate) async fn run(mut self, mut world: watch::Receiver<World>) {
        loop {
            let Ok(now) = world.wait_for(Option::is_some).await.map(|now| *now) else { return };
            if let Some((address, drains)) = now {
                self.drains = drains;
                while *world.borrow() == now && self.stay(address, &world, now).await.is_ok() {}
            }
            if world.wait_for(|other| *other != now).await.is_err() {
                return;
            }
            // After a crash it comes back as itself and holds what it held, or as somebody else.
            if self.rng.random() {
                self.renamed();
            }
        }
    }

    fn renamed(&mut self) {
        self.life += 1;
        self.held.clear();
    }

    /// One connection. Ends well when it was given up on purpose.
    async fn stay(&mut self, address: SocketAddr, world: &watch::Receiver<World>, now: World) -> io::Result<()> {
        let mut session = Session::connect(address).await?;
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_member_id(text(&self.id()))
            .with_subscribed_topic_names(Some(vec![TopicName(text(TOPIC))]));
        let joined = session.call(1, &request).await?;
        assert_eq!(joined.error_code, 0, "{:?}", joined.error_message);
        self.epoch = 0;
        self.fetch(&mut session).await?;
        while matches!(world.has_changed(), Ok(false)) && *world.borrow() == now {
            let step = if self.drains { 0 } else { self.rng.random_range(0..100) };
            match step {
                0..45 => self.fetch(&mut session).await?,
                45..90 => {
                    let words = self.words();
                    self.acknowledge(&mut session, &words).await?;
                }
                90..95 => {
                    if let Some(place) = self.held.last().copied() {
                        self.acknowledge(&mut session, &[(place, Verdict::Renew)]).await?;
                    }
                }
                95..97 => {
                    self.history.lock().closes(&self.id(), now_us());
                    let request = ShareAcknowledgeRequest { share_session_epoch: -1, ..self.empty() };
                    let response = session.call(2, &request).await?;
                    assert_eq!(response.error_code, 0, "closing");
                    self.renamed();
                    return Ok(());
                }
                97 => {
                    // An answer that nobody takes.
                    let request = self.asks(&[]);
                    self.history.lock().unanswered.push(now_us());
                    self.history.lock().drops(&self.id(), now_us());
                    session.send(2, &request).await?;
                    self.renamed();
                    return Ok(());
                }
                _ => {
                    self.history.lock().drops(&self.id(), now_us());
                    self.renamed();
                    return Ok(());
                }
            }
        }
        // The world has changed: the server is gone or is to go.
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// What to say of some of the records that are held; of some it never says anything.
    fn words(&mut self) -> Vec<(Place, Verdict)> {
        self.held.shuffle(&mut self.rng);
        let left = if self.drains { 0 } else { self.held.len() - self.rng.random_range(0..=self.held.len().min(6)) };
        let mut words = Vec::new();
        for place in self.held.split_off(left) {
            let verdict = match if self.drains { 0 } else { self.rng.random_range(0..100) } {
                0..55 => Verdict::Accept,
                55..82 => Verdict::Release,
                82..90 => Verdict::Reject,
                _ => continue,
            };
            words.push((place, verdict));
        }
        words.sort_unstable_by_key(|(place, _)| *place);
        words
    }

    fn empty(&self) -> ShareAcknowledgeRequest {
        ShareAcknowledgeRequest {
            group_id: Some(text(self.group)),
            member_id: Some(text(&self.id())),
            share_session_epoch: self.epoch,
            ..ShareAcknowledgeRequest::default()
        }
    }

    async fn acknowledge(&mut self, session: &mut Session, words: &[(Place, Verdict)]) -> io::Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let mut partitions: BTreeMap<i32, Vec<Said>> = BTreeMap::new();
        for ((partition, offset), verdict) in words {
            let said = Said::default().with_first_offset(*offset).with_last_offset(*offset);
            partitions.entry(*partition).or_default().push(said.with_acknowledge_types(vec![*verdict as i8]));
        }
        let partition = |(index, said)| {
            AcknowledgePartition::default().with_partition_index(index).with_acknowledgement_batches(said)
        };
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic);
        let request = ShareAcknowledgeRequest {
            is_renew_ack: words.iter().any(|(_, verdict)| *verdict == Verdict::Renew),
            topics: vec![topic.with_partitions(partitions.into_iter().map(partition).collect())],
            ..self.empty()
        };
        let sent = now_us();
        let answer = session.call(2, &request).await;
        let codes: Option<BTreeMap<i32, i16>> = answer.as_ref().ok().map(|response| {
            assert_eq!(response.error_code, 0, "acknowledging");
            let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| (partition.partition_index, partition.error_code)).collect()
        });
        self.epoch += 1;
        self.said(words, sent, codes.as_ref());
        answer.map(drop)
    }

    fn said(&mut self, words: &[(Place, Verdict)], sent: i64, codes: Option<&BTreeMap<i32, i16>>) {
        let (got, member) = (now_us(), self.id());
        let mut history = self.history.lock();
        for (place, verdict) in words {
            let code = codes.map(|codes| *codes.get(&place.0).expect("an outcome for each partition"));
            history.said(*place, Word { member: member.clone(), verdict: *verdict, sent, got, code });
        }
    }

    fn asks(&mut self, words: &[(Place, Verdict)]) -> ShareFetchRequest {
        let partition = |index| {
            let said = words.iter().filter(|((partition, _), _)| *partition == index).map(|((_, offset), verdict)| {
                let said = SaidOnTheWay::default().with_first_offset(*offset).with_last_offset(*offset);
                said.with_acknowledge_types(vec![*verdict as i8])
            });
            FetchPartition::default().with_partition_index(index).with_acknowledgement_batches(said.collect())
        };
        let limit = self.rng.random_range(1..=10);
        ShareFetchRequest {
            group_id: Some(text(self.group)),
            member_id: Some(text(&self.id())),
            share_session_epoch: self.epoch,
            max_wait_ms: self.rng.random_range(0..=WAIT_MS),
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: limit,
            batch_size: limit,
            share_acquire_mode: self.rng.random_range(0..=1),
            topics: vec![
                FetchTopic::default()
                    .with_topic_id(self.topic)
                    .with_partitions((0..PARTITIONS).map(partition).collect()),
            ],
            ..ShareFetchRequest::default()
        }
    }

    async fn fetch(&mut self, session: &mut Session) -> io::Result<()> {
        let on_the_way = self.epoch > 0 && (self.drains || self.rng.random_range(0..3) == 0);
        let words = if on_the_way { self.words() } else { Vec::new() };
        let request = self.asks(&words);
        let (limit, exact) = (request.max_records as usize, request.share_acquire_mode == 1);
        let sent = now_us();
        let answer = match session.call(2, &request).await {
            Ok(answer) => answer.0,
            Err(error) => {
                self.history.lock().unanswered.push(sent);
                self.said(&words, sent, None);
                return Err(error);
            }
        };
        assert_eq!(answer.error_code, 0, "fetching at epoch {}", self.epoch);
        self.epoch += 1;
        let partitions: Vec<&PartitionData> = answer.responses.iter().flat_map(|topic| &topic.partitions).collect();
        let codes = partitions.iter().map(|data| (data.partition_index, data.acknowledge_error_code)).collect();
        self.said(&words, sent, Some(&codes));
        let before = self.held.len();
        for data in partitions {
            self.take(data, sent);
        }
        assert!(!exact || self.held.len() - before <= limit, "S3: more than {limit} records in exact mode");
        Ok(())
    }

    fn take(&mut self, data: &PartitionData, sent: i64) {
        assert_eq!(data.error_code, 0, "fetching partition {}", data.partition_index);
        let (got, member) = (now_us(), self.id());
        let mut values = BTreeMap::new();
        let mut bytes = data.records.clone().unwrap_or_default();
        while let Ok(header) = BatchHeader::read(&bytes) {
            let batch = bytes.split_to(header.len);
            for record in &Records::open(&batch, &header, LIMIT).expect("it opens") {
                let record = record.expect("a sound record");
                values.insert(record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
            }
        }
        let mut history = self.history.lock();
        for run in &data.acquired_records {
            for offset in run.first_offset..=run.last_offset {
                let place = (data.partition_index, offset);
                // Without its bytes it is nothing that was sent, which the checker says.
                let value = values.get(&offset).cloned().unwrap_or_default();
                let count = run.delivery_count;
                history.delivered(place, Delivery { member: member.clone(), count, value, sent, got });
                self.held.retain(|held| *held != place);
                self.held.push(place);
            }
        }
    }
}
