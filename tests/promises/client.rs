//! A client that uses every feature, and writes down what it was promised.

use std::net::SocketAddr;
use std::sync::Arc;

use krocket_testkit::session::Session;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::ledger::{Kind, Ledger};
use crate::wire::{self, Outgoing};
use crate::{PARTITIONS, RETRY, TOPIC};

pub(crate) struct Client {
    id: u32,
    rng: StdRng,
    ledger: Arc<Mutex<Ledger>>,
    next: u64,
    /// Acknowledged half messages that have no end yet.
    halves: Vec<String>,
    /// Acknowledged delayed ones that may still be cancelled.
    pending: Vec<String>,
}

impl Client {
    pub(crate) fn new(id: u32, seed: u64, ledger: Arc<Mutex<Ledger>>) -> Self {
        Client { id, rng: StdRng::seed_from_u64(seed), ledger, next: 0, halves: Vec::new(), pending: Vec::new() }
    }

    /// Works whenever there is a server, until the world ends.
    pub(crate) async fn run(mut self, mut world: watch::Receiver<Option<SocketAddr>>) {
        loop {
            let Ok(address) = world.wait_for(Option::is_some).await.map(|address| *address) else { return };
            if let Some(address) = address
                && let Ok(mut session) = Session::connect(address).await
            {
                while matches!(world.has_changed(), Ok(false)) && self.step(&mut session).await.is_ok() {}
            }
            // Gone, or about to be.
            if world.wait_for(|now| *now != address).await.is_err() {
                return;
            }
        }
    }

    async fn step(&mut self, session: &mut Session) -> std::io::Result<()> {
        match self.rng.random_range(0..10) {
            0..3 => self.delayed(session).await,
            3 => self.cancel(session).await,
            4..6 => self.half(session).await,
            6..8 => self.end(session).await,
            8 => self.retry(session, "0", Kind::Retried).await,
            _ => self.retry(session, "2", Kind::Dead).await,
        }
    }

    fn value(&mut self) -> String {
        self.next += 1;
        format!("{}-{}", self.id, self.next)
    }

    /// Several delayed records in one batch.
    async fn delayed(&mut self, session: &mut Session) -> std::io::Result<()> {
        let acks = if self.rng.random() { 1 } else { -1 };
        let partition = self.rng.random_range(0..PARTITIONS);
        let mut records = Vec::new();
        for _ in 0..self.rng.random_range(1..20) {
            let value = self.value();
            let delay: i64 = self.rng.random_range(0..1500);
            self.ledger.lock().set(&value, Kind::Unknown, wire::now_ms() + delay);
            records.push(Outgoing::new(&value).header("TIMER_DELAY_MS", &delay.to_string()).header("UNIQ_KEY", &value));
        }
        let base = wire::produce(session, TOPIC, partition, acks, &records).await?.expect("accepted");
        for (offset, record) in (base..).zip(records) {
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
        wire::produce(session, RETRY, 0, 1, &[record]).await?.expect("accepted");
        self.ledger.lock().settle(&value, kind);
        Ok(())
    }
}
