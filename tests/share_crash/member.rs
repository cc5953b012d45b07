//! A share consumer that does everything a member may do, and writes down what it saw.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use krocket_testkit::session::Session;
use krocket_testkit::share::{Place, ShareMember, Verdict, Want};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::history::{Delivery, History, Word};
use crate::wire::now_us;
use crate::{PARTITIONS, TOPIC};

/// Longest wait of a fetch, ms.
pub(crate) const WAIT_MS: i32 = 200;

/// Where the server is, and whether members are only to accept.
pub(crate) type World = Option<(SocketAddr, bool)>;

pub(crate) struct Member {
    group: &'static str,
    name: String,
    /// Grows when it comes back as somebody else.
    life: u32,
    rng: StdRng,
    history: Arc<Mutex<History>>,
    held: Vec<Place>,
    drains: bool,
}

impl Member {
    pub(crate) fn new(group: &'static str, at: u32, seed: u64, history: Arc<Mutex<History>>) -> Self {
        let (name, rng) = (format!("{group}-{at}"), StdRng::seed_from_u64(seed));
        Member { group, name, life: 0, rng, history, held: Vec::new(), drains: false }
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
        let session = Session::connect(address).await?;
        let joined = ShareMember::join(session, self.group, &self.id(), TOPIC, PARTITIONS).await?;
        let mut member = joined.unwrap_or_else(|code| panic!("joining: {code}"));
        self.fetch(&mut member).await?;
        while matches!(world.has_changed(), Ok(false)) && *world.borrow() == now {
            let step = if self.drains { 0 } else { self.rng.random_range(0..100) };
            match step {
                0..45 => self.fetch(&mut member).await?,
                45..90 => {
                    let words = self.words();
                    self.acknowledge(&mut member, &words).await?;
                }
                90..95 => {
                    if let Some(place) = self.held.last().copied() {
                        self.acknowledge(&mut member, &[(place, Verdict::Renew)]).await?;
                    }
                }
                95..97 => {
                    self.history.lock().closes(&self.id(), now_us());
                    assert_eq!(member.close().await?, Ok(()), "closing");
                    self.renamed();
                    return Ok(());
                }
                97 => {
                    // An answer that nobody takes.
                    self.history.lock().unanswered.push(now_us());
                    self.history.lock().drops(&self.id(), now_us());
                    member.ask(&self.wants()).await?;
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

    async fn acknowledge(&mut self, member: &mut ShareMember, words: &[(Place, Verdict)]) -> io::Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let sent = now_us();
        let answer = member.acknowledge(words).await;
        let codes = answer.as_ref().ok().map(|answer| answer.as_ref().expect("acknowledging"));
        self.said(words, sent, codes);
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

    fn wants(&mut self) -> Want {
        let records = self.rng.random_range(1..=10);
        Want { wait_ms: self.rng.random_range(0..=WAIT_MS), records, exact: self.rng.random() }
    }

    async fn fetch(&mut self, member: &mut ShareMember) -> io::Result<()> {
        let on_the_way = !member.is_new() && (self.drains || self.rng.random_range(0..3) == 0);
        let words = if on_the_way { self.words() } else { Vec::new() };
        let want = self.wants();
        let sent = now_us();
        let fetched = match member.fetch(&want, &words).await {
            Ok(answer) => answer.expect("fetching"),
            Err(error) => {
                self.history.lock().unanswered.push(sent);
                self.said(&words, sent, None);
                return Err(error);
            }
        };
        self.said(&words, sent, Some(&fetched.codes));
        let (got, id, taken) = (now_us(), self.id(), fetched.records.len());
        let mut history = self.history.lock();
        for record in fetched.records {
            let (place, count, value) = (record.place, record.count, record.value);
            // Without its bytes it is nothing that was sent, which the checker says.
            history.delivered(place, Delivery { member: id.clone(), count, value, sent, got });
            self.held.retain(|held| *held != place);
            self.held.push(place);
        }
        assert!(!want.exact || taken <= want.records as usize, "S3: {taken} records in exact mode: {want:?}");
        Ok(())
    }
}
