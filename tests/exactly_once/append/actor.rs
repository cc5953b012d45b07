//! A transactional producer that outlives its server: what got no answer it asks again, over another connection.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::GroupId;
use krocket_testkit::session::Session;
use rand::Rng;
use rand::rngs::StdRng;

use super::history::{Element, History, Outcome, Txn, partition_of};
use super::{INPUTS, LISTS, REFUSALS};
use crate::client::{Failure, Producer};
use crate::{LONG, PARTITIONS, World};

/// The transaction is over; its producer may be, too.
pub(crate) struct Over;

pub(crate) struct Actor {
    pub(crate) id: String,
    pub(crate) rng: StdRng,
    pub(crate) history: Arc<History>,
    pub(crate) world: World,
}

/// A producer and its transaction.timeout.ms.
pub(crate) struct Own {
    pub(crate) producer: Producer,
    pub(crate) timeout: Duration,
    /// What it called itself in the transaction before.
    pub(crate) before: Option<(i64, i16)>,
}

impl Actor {
    /// Takes the id over, however often the server goes down meanwhile.
    pub(crate) async fn init(&mut self, timeout: Duration) -> Own {
        loop {
            let session = self.connect().await;
            match Producer::init(session, &self.id, timeout).await {
                Ok(producer) => return Own { producer, timeout, before: None },
                Err(Failure::Lost(_)) => {}
                Err(Failure::Refused(code)) => panic!("InitProducerId of {} is refused with {code}", self.id),
            }
        }
    }

    pub(crate) async fn connect(&mut self) -> Session {
        loop {
            let (address, _) = self.world.server().await;
            match Session::connect(address).await {
                Ok(session) => return session,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Appends an element to each of these lists of one partition.
    pub(crate) async fn append(&mut self, own: &mut Own, txn: Txn, keys: &[u32]) -> Result<(), Over> {
        let elements = self.history.with(|log| log.append(txn, keys));
        let records = records(keys, &elements);
        loop {
            match own.producer.send(LISTS, partition_of(keys[0]), &records).await {
                Ok(base) => {
                    self.history.with(|log| log.stored(&elements, base));
                    return Ok(());
                }
                Err(failure) => self.recover(own, failure).await?,
            }
        }
    }

    /// How far the group has come becomes part of the transaction.
    pub(crate) async fn stage(&mut self, own: &mut Own, group: &GroupId, offsets: &[(i32, i64)]) -> Result<(), Over> {
        loop {
            match own.producer.stage(group, INPUTS, offsets).await {
                Ok(()) => return Ok(()),
                Err(failure) => self.recover(own, failure).await?,
            }
        }
    }

    pub(crate) async fn end(&mut self, own: &mut Own, txn: Txn, commit: bool) -> Result<(), Over> {
        if commit {
            self.history.settle(txn, Outcome::Doubtful);
        }
        own.before = Some(own.producer.producer);
        loop {
            match own.producer.end(commit).await {
                Ok(()) => {
                    if commit {
                        self.history.settle(txn, Outcome::Committed);
                    }
                    return Ok(());
                }
                Err(failure) => self.recover(own, failure).await?,
            }
        }
    }

    /// Makes it possible to ask again, where the actor is in the mood to and has not been told no.
    async fn recover(&mut self, own: &mut Own, failure: Failure) -> Result<(), Over> {
        match failure {
            Failure::Lost(_) if self.rng.random_ratio(3, 4) => {
                self.history.with(|log| log.count("asked again"));
                own.producer.session = self.connect().await;
                Ok(())
            }
            Failure::Lost(_) => Err(Over),
            Failure::Refused(code) => {
                self.history.with(|log| log.count("refused"));
                assert!(REFUSALS.contains(&code), "{} is refused with {code}", self.id);
                assert!(own.timeout < LONG, "{} is refused with {code}, and nobody fenced it", self.id);
                Err(Over)
            }
        }
    }
}

pub(crate) fn records(keys: &[u32], elements: &[Element]) -> Vec<(Option<String>, String)> {
    keys.iter().zip(elements).map(|(key, element)| (Some(key.to_string()), element.to_string())).collect()
}

/// Lists of one partition.
pub(crate) fn some_keys(rng: &mut StdRng) -> Vec<u32> {
    let partition = rng.random_range(0..PARTITIONS as u32);
    let lists = super::KEYS / PARTITIONS as u32;
    (0..rng.random_range(1..4)).map(|_| partition + rng.random_range(0..lists) * PARTITIONS as u32).collect()
}
