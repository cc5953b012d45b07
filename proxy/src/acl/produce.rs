//! Produce: Write on each topic, and on the transactional id.

use krocket_protocol::ErrorCode;
use krocket_protocol::records::BatchHeader;
use krocket_stack::security::Operation::Write;
use krocket_stack::{Error, Handler, ProducePartition, Refusal, Request, Response};

use super::Ask;

/// Everything happens before the first wait: the order of the wire is kept.
pub(super) async fn call(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut produce) = request.into_produce()?;
    let id = produce.transactional_id.clone();
    let id_allowed = id.as_ref().is_some_and(|id| ask.transactional_id(Write, id).is_ok());
    let all = produce.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for partition in all.filter(|partition| id.is_some() || is_transactional(partition)) {
        if !id_allowed {
            refuse(partition, ErrorCode::TransactionalIdAuthorizationFailed, "the transactional id may not be used");
        }
    }
    for topic in &mut produce.topics {
        let name = if topic.id.is_nil() { Some(topic.name.clone()) } else { ask.name(topic.id) };
        // A topic that is not there is the backend's to tell.
        let Some(name) = name else { continue };
        let allowed = ask.topic(Write, &name);
        for partition in &mut topic.partitions {
            if !allowed {
                refuse(partition, ErrorCode::TopicAuthorizationFailed, "the topic may not be written");
            } else if let Some(secret) = ask.reads_secret(&name, partition) {
                let why = format!("a record names a message of {secret}, which may not be read");
                refuse(partition, ErrorCode::TopicAuthorizationFailed, &why);
            }
        }
    }
    next.call(Request::from_produce(head, produce)).await
}

fn is_transactional(partition: &ProducePartition) -> bool {
    BatchHeader::read(&partition.records).is_ok_and(|header| header.is_transactional())
}

fn refuse(partition: &mut ProducePartition, code: ErrorCode, why: &str) {
    if partition.refused.is_none() {
        partition.refused = Some(Refusal::new(code, why));
    }
}
