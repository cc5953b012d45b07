//! A client that uses every feature, and writes down what it was promised.

use std::sync::Arc;
use std::time::Duration;

use crate::session::Session;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::ledger::{Kind, Ledger};
use super::wire::{self, Outgoing};
use super::world::World;
use super::{PARTITIONS, RETRY, TOPIC};

pub(crate) struct Client {
    id: u32,
    rng: StdRng,
    ledger: Arc<Mutex<Ledger>>,
    next: u64,
    /// After each step.
    pause: Duration,
    /// Acknowledged half messages that have no end yet.
    halves: Vec<String>,
    /// Acknowledged delayed ones that may still be cancelled.
    pending: Vec<String>,
}

impl Client {
    pub(crate) fn new(id: u32, seed: u64, ledger: Arc<Mutex<Ledger>>, pause: Duration) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Client { id, rng, ledger, next: 0, pause, halves: Vec::new(), pending: Vec::new() }
    }

    /// Works whenever there is a server, until the world ends.
    pub(crate) async fn run(mut self, world: World) {
        let (mut steps, mut done) = (world.steps(self.pause), Ok(()));
        while let Some(session) = steps.next(done).await {
            done = self.step(session).await;
        }
    }

    async fn step(&mut self, session: &mut Session) -> std::io::Result<()> {
        match self.rng.random_range(0..11) {
            10 => self.transaction(session).await,
            0..3 => self.delayed(session).await,
            3 => self.cancel(session).await,
            4..6 => self.half(session).await,
            6..8 => self.end(session).await,
            8 => self.retry(session, "0", Kind::Retried).await,
            _ => self.retry(session, "2", Kind::Dead).await,
        }
    }

    /// 1 is a promise as well, where no power is lost.
    fn acks(&mut self) -> i16 {
        if self.rng.random() { self.ledger.lock().acks } else { -1 }
    }

    fn value(&mut self) -> String {
        self.next += 1;
        format!("{}-{}", self.id, self.next)
    }

    /// Several delayed records in one batch.
    async fn delayed(&mut self, session: &mut Session) -> std::io::Result<()> {
        // What is no promise may be torn.
        let acks = if self.rng.random() { 1 } else { -1 };
        let promised = acks == -1 || self.ledger.lock().acks == 1;
        let partition = self.rng.random_range(0..PARTITIONS);
        let mut records = Vec::new();
        for _ in 0..self.rng.random_range(1..20) {
            let value = self.value();
            let delay: i64 = self.rng.random_range(0..1500);
            self.ledger.lock().set(&value, Kind::Unknown, wire::now_ms() + delay);
            records.push(Outgoing::new(&value).header("TIMER_DELAY_MS", &delay.to_string()).header("UNIQ_KEY", &value));
        }
        let base = wire::produce(session, TOPIC, partition, acks, &records).await?.expect("accepted");
        for (offset, record) in (base..).zip(records).filter(|_| promised) {
            let mut ledger = self.ledger.lock();
            ledger.settle(&record.value, Kind::Delayed);
            // Past due at once is delivered in place, and has no other origin.
            if record.headers.iter().any(|(name, value)| name == "TIMER_DELAY_MS" && value == "0") {
                continue;
            }
            ledger.named(&record.value, format!("{TOPIC}:{partition}:{offset}"));
            self.pending.push(record.value);
        }
        Ok(())
    }

    /// Delayed records in a Kafka transaction: parked with its commit, never there after its abort.
    async fn transaction(&mut self, session: &mut Session) -> std::io::Result<()> {
        let (partition, commit) = (self.rng.random_range(0..PARTITIONS), self.rng.random_range(0..3) > 0);
        let mut records = Vec::new();
        for _ in 0..self.rng.random_range(1..6) {
            let value = self.value();
            let delay: i64 = self.rng.random_range(1..800);
            self.ledger.lock().set(&value, Kind::Unknown, wire::now_ms() + delay);
            records.push(Outgoing::new(&value).header("TIMER_DELAY_MS", &delay.to_string()));
        }
        let id = format!("client-{}", self.id);
        let base = wire::transaction(session, &id, (TOPIC, partition), &records, commit).await?;
        for (offset, record) in (base..).zip(records) {
            let mut ledger = self.ledger.lock();
            ledger.settle(&record.value, if commit { Kind::InTransaction } else { Kind::Aborted });
            ledger.named(&record.value, format!("{TOPIC}:{partition}:{offset}"));
        }
        Ok(())
    }

    async fn cancel(&mut self, session: &mut Session) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let at = self.pending.len() - 1 - self.rng.random_range(0..self.pending.len().min(20));
        let value = self.pending.swap_remove(at);
        self.ledger.lock().doubt(&value);
        let command = Outgoing::new("cancel").header("TIMER_DEL_UNIQKEY", &value);
        let partition = self.rng.random_range(0..PARTITIONS);
        match wire::produce(session, TOPIC, partition, -1, &[command]).await? {
            Ok(_) => self.ledger.lock().settle(&value, Kind::Cancelled),
            // Delivered already, then: it says so.
            Err(why) => {
                assert!(why.contains("deliver"), "a cancel of {value} was refused: {why}");
                self.ledger.lock().settle(&value, Kind::Delayed);
            }
        }
        Ok(())
    }

    async fn half(&mut self, session: &mut Session) -> std::io::Result<()> {
        let value = self.value();
        self.ledger.lock().set(&value, Kind::Half, 0);
        let record = Outgoing::new(&value)
            .header("TRAN_MSG", "true")
            .header("PGROUP", "shop")
            .header("CHECK_IMMUNITY_TIME_IN_SECONDS", "1")
            .header("UNIQ_KEY", &value);
        let partition = self.rng.random_range(0..PARTITIONS);
        wire::produce(session, TOPIC, partition, -1, &[record]).await?.expect("accepted");
        self.halves.push(value);
        Ok(())
    }

    async fn end(&mut self, session: &mut Session) -> std::io::Result<()> {
        let Some(value) = self.halves.pop() else { return Ok(()) };
        let (verdict, kind) =
            if self.rng.random() { ("COMMIT", Kind::Committed) } else { ("ROLLBACK", Kind::RolledBack) };
        if kind == Kind::Committed {
            self.ledger.lock().doubt(&value);
        }
        let command = Outgoing::new("end").header("TRAN_END", verdict).header("UNIQ_KEY", &value);
        let partition = self.rng.random_range(0..PARTITIONS);
        wire::produce(session, TOPIC, partition, -1, &[command]).await?.expect("the half message has no end yet");
        self.ledger.lock().settle(&value, kind);
        Ok(())
    }

    async fn retry(&mut self, session: &mut Session, times: &str, kind: Kind) -> std::io::Result<()> {
        let value = self.value();
        let wait = if kind == Kind::Retried { 150 } else { 0 };
        self.ledger.lock().set(&value, Kind::Unknown, wire::now_ms() + wait);
        let record = Outgoing::new(&value)
            .header("RECONSUME_TIMES", times)
            .header("REAL_TOPIC", TOPIC)
            .header("ERROR", "does not add up");
        let acks = self.acks();
        wire::produce(session, RETRY, 0, acks, &[record]).await?.expect("accepted");
        self.ledger.lock().settle(&value, kind);
        Ok(())
    }
}
