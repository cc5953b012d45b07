//! The layer: a record sent to `retry.<group>` waits by the group's policy and comes back, or dies.

use std::sync::Arc;

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, JoinGroupRequest, MetadataRequest};
use krocket_config::rules::{Live, Prefixes};
use krocket_features::escape;
use krocket_features::headers::{MAX_RECONSUME_TIMES, Name, mentioned};
use krocket_features::produce::{number, records, resolve};
use krocket_features::reserved::metadata_without;
use krocket_parking::Parking;
use krocket_protocol::{ApiKey, ErrorCode};
use krocket_stack::{BoxFuture, Error, Handler, Layer, Produce, ProducePartition, Refusal, Request, Response};

use crate::attempts::Attempts;
use crate::nack::{Held, Nacks, RETRIES};
use crate::redrive::Brake;
use crate::topics::{Named, Topics};

/// Retry and dead letters.
pub struct Retry {
    parking: Arc<Parking>,
    topics: Arc<Topics>,
    rules: Live,
    attempts: Arc<Attempts>,
    brake: Brake,
}

impl Retry {
    /// On what is parked, by these rules.
    pub fn new(parking: Arc<Parking>, topics: Arc<Topics>, rules: Live) -> Self {
        let attempts = Attempts::new(parking.ledger().clone());
        Retry { parking, topics, rules, attempts, brake: Brake::default() }
    }
}

impl Layer for Retry {
    fn name(&self) -> &'static str {
        "retry"
    }

    fn wants(&self, api: ApiKey) -> bool {
        matches!(api, ApiKey::Produce | ApiKey::Metadata | ApiKey::JoinGroup | ApiKey::ConsumerGroupHeartbeat)
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        if request.head.connection.is_internal() {
            return next.call(request);
        }
        match request.head.api {
            ApiKey::Produce => Box::pin(self.produce(request, next)),
            ApiKey::Metadata => Box::pin(self.metadata(request, next)),
            ApiKey::JoinGroup => Box::pin(async move {
                let (head, message) = request.into_message::<JoinGroupRequest>()?;
                if &*message.protocol_type == "consumer" {
                    self.topics.prepare(&message.group_id);
                }
                next.call(Request::new(head, message)).await
            }),
            _ => Box::pin(async move {
                let (head, message) = request.into_message::<ConsumerGroupHeartbeatRequest>()?;
                if message.member_epoch == 0 {
                    self.topics.prepare(&message.group_id);
                }
                next.call(Request::new(head, message)).await
            }),
        }
    }
}

impl Retry {
    /// Topics of this feature come as [`Topics`] says, not as others do by being asked for.
    async fn metadata(&self, request: Request, next: &dyn Handler) -> Result<Response, Error> {
        let (head, mut message) = request.into_message::<MetadataRequest>()?;
        let mut unknown = Vec::new();
        for topic in message.topics.iter().flatten() {
            if let Some(name) = &topic.name
                && self.topics.asked_for(name).await == Named::Unknown
            {
                unknown.push(name.clone());
            }
        }
        if let Some(topics) = &mut message.topics {
            topics.retain(|topic| topic.name.as_ref().is_none_or(|name| !unknown.contains(name)));
        }
        metadata_without(next, head, message, unknown, ErrorCode::UnknownTopicOrPartition).await
    }

    async fn produce(&self, request: Request, next: &dyn Handler) -> Result<Response, Error> {
        let (head, mut produce) = request.into_produce()?;
        let ledger = self.parking.ledger();
        resolve(&mut produce, &**ledger);
        let rules = self.rules.get();
        self.complete(&produce, &rules.prefixes).await;
        let synced = produce.acks == -1;
        let mut held: Vec<Held> = Vec::new();
        for (topic, partition) in produce.open_partitions() {
            if topic.starts_with(&rules.prefixes.dlq) {
                let message = format!("{topic} belongs to krocket: messages come to it from {}", rules.prefixes.retry);
                partition.refused = Some(Refusal::new(ErrorCode::InvalidTopicException, message));
                continue;
            }
            let Some(group) = escape::group(&rules.prefixes.retry, topic) else {
                if mentioned(partition).any(&[Name::MAX_RECONSUME_TIMES]) {
                    partition.refused = check_limits(partition).err();
                }
                continue;
            };
            let policy = rules.retry(&group);
            if !policy.enabled {
                continue;
            }
            let Some(info) = ledger.topic(topic) else {
                let message = format!("there is no group {group:?}: its retry topic comes with it");
                partition.refused = Some(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
                continue;
            };
            let (parking, attempts, brake) = (&self.parking, &self.attempts, &self.brake);
            let nacks =
                Nacks { parking, attempts, brake, rules: &rules, group: &group, policy: &policy, topic: &info, synced };
            match nacks.look(partition) {
                Ok(parked) => held.extend(parked),
                Err(refusal) => partition.refused = Some(refusal),
            }
        }
        let response = next.call(Request::from_produce(head, produce)).await;
        held.into_iter().for_each(Held::stored);
        response
    }

    /// Groups that something is retried for have both their topics.
    async fn complete(&self, produce: &Produce, prefixes: &Prefixes) {
        for topic in &produce.topics {
            if let Some(group) = escape::group(&prefixes.retry, &topic.name)
                && self.topics.missing(&group)
            {
                self.topics.complete(&group, self.parking.ledger().topic(&topic.name).is_some()).await;
            }
        }
    }
}

/// A limit is a property of the message from the beginning; it would be too late to hear of it with the first retry.
fn check_limits(partition: &ProducePartition) -> Result<(), Refusal> {
    let Some(records) = records(partition) else { return Ok(()) };
    for (place, record) in (0..).zip(records.iter().map_while(Result::ok)) {
        number(&record, place, MAX_RECONSUME_TIMES, RETRIES)?;
    }
    Ok(())
}
