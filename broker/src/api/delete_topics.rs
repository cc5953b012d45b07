//! DeleteTopics: by name, and by id from version 6.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use uuid::Uuid;

use super::reply::{ApiError, duplicates, topic_name};
use crate::Broker;
use crate::topics::{Edit, Topic, Topics};

/// Answers DeleteTopics: all topics of a request go as one; their records and committed offsets with them.
pub(crate) async fn handle(broker: &Broker, head: Head, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let wanted: Vec<Wanted> = if head.version >= 6 {
        request.topics.into_iter().map(|topic| Wanted { name: topic.name, id: topic.topic_id }).collect()
    } else {
        request.topic_names.into_iter().map(|name| Wanted { name: Some(name), id: Uuid::nil() }).collect()
    };
    let change = broker.topics.change().await;
    let mut found: Vec<(Wanted, Result<Arc<Topic>, ApiError>)> =
        wanted.into_iter().map(|wanted| (wanted.clone(), find(&broker.topics, &wanted))).collect();
    refuse_duplicates(&mut found);
    let mut allowance = broker.mutations.of(&head, 5);
    for (_, topic) in &mut found {
        let allowed = topic.as_ref().map_or(Ok(()), |topic| allowance.take(topic.partition_count().unsigned_abs()));
        if let Err(error) = allowed {
            *topic = Err(error);
        }
    }
    let edits = found.iter().filter_map(|(_, topic)| topic.clone().ok().map(Edit::Delete)).collect();
    let outcome = change.commit(edits).await.map_err(ApiError::from);
    let results = found.into_iter().map(|(wanted, topic)| {
        let topic = topic.and_then(|topic| outcome.clone().map(|()| topic));
        let result = DeletableTopicResult::default();
        match topic {
            Ok(topic) => result.with_name(Some(topic_name(&topic.name))).with_topic_id(topic.id),
            Err(error) => result
                .with_name(wanted.name)
                .with_topic_id(wanted.id)
                .with_error_code(error.code.code())
                .with_error_message(error.text()),
        }
    });
    let throttled = allowance.throttle_time_ms();
    DeleteTopicsResponse::default().with_responses(results.collect()).with_throttle_time_ms(throttled)
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Wanted {
    name: Option<TopicName>,
    id: Uuid,
}

fn find(topics: &Topics, wanted: &Wanted) -> Result<Arc<Topic>, ApiError> {
    match (&wanted.name, wanted.id.is_nil()) {
        (Some(name), true) => topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition.into()),
        (None, false) => topics.by_id(wanted.id).ok_or(ErrorCode::UnknownTopicId.into()),
        (None, true) => Err(ApiError::new(ErrorCode::InvalidRequest, "Neither topic name nor id were specified.")),
        (Some(_), false) => {
            Err(ApiError::new(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."))
        }
    }
}

/// A topic that is named twice, in whatever way, is not deleted.
fn refuse_duplicates(found: &mut Vec<(Wanted, Result<Arc<Topic>, ApiError>)>) {
    let twice = duplicates(found.iter().filter_map(|(_, topic)| topic.as_ref().ok().map(|topic| topic.id)));
    for (wanted, topic) in found.iter_mut() {
        if topic.as_ref().is_ok_and(|topic| twice.contains(&topic.id)) {
            let what = if wanted.name.is_some() { "name" } else { "id" };
            *topic = Err(ApiError::new(ErrorCode::InvalidRequest, format!("Duplicate topic {what}.")));
        }
    }
    // One answer for each way it was named.
    let mut told = std::collections::HashSet::new();
    found.retain(|(wanted, _)| told.insert(wanted.clone()));
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use krocket_protocol::ApiKey;
    use krocket_stack::BoxFuture;
    use parking_lot::Mutex;

    use super::*;
    use crate::api::testing::{TestBroker, error, topic};
    use crate::topics::{Forget, NewTopic};

    async fn create(broker: &TestBroker, names: &[&str]) {
        let change = broker.broker.topics.change().await;
        let edits = names.iter().map(|name| {
            let name = name.to_string();
            Edit::Create(NewTopic { name, id: change.new_id(), partitions: 2, configs: Default::default() })
        });
        let edits = edits.collect();
        change.commit(edits).await.expect("created");
    }

    fn by_name(name: &'static str) -> DeleteTopicState {
        DeleteTopicState::default().with_name(Some(topic(name)))
    }

    fn by_id(id: Uuid) -> DeleteTopicState {
        DeleteTopicState::default().with_name(None).with_topic_id(id)
    }

    #[derive(Default)]
    struct Offsets(Mutex<Vec<String>>);

    impl Forget for Offsets {
        fn forget<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, ()> {
            Box::pin(async move { self.0.lock().push(topic.to_owned()) })
        }
    }

    #[tokio::test]
    async fn a_topic_goes_with_its_records_and_offsets_at_every_version() {
        let broker = TestBroker::start().await;
        let offsets = Arc::new(Offsets::default());
        broker.broker.topics.add_forget(&offsets);
        for version in 1..=6 {
            create(&broker, &["a", "b"]).await;
            let a = broker.broker.topics.get("a").expect("created");
            let request = match version {
                6 => DeleteTopicsRequest::default().with_topics(vec![by_id(a.id)]),
                _ => DeleteTopicsRequest::default().with_topic_names(vec![topic("a")]),
            };
            let mut changes = broker.broker.topics.changes();
            let response: DeleteTopicsResponse = broker.ask(ApiKey::DeleteTopics, version, request).await;
            assert_eq!(response.responses.len(), 1);
            let result = &response.responses[0];
            assert_eq!((result.name.as_deref().map(|name| name.as_str()), error(result.error_code)), (Some("a"), None));
            if version == 6 {
                assert_eq!(result.topic_id, a.id);
            }
            assert!(broker.broker.topics.get("a").is_none() && broker.broker.topics.by_id(a.id).is_none());
            assert!(a.partitions.load().iter().all(|partition| partition.is_deleted()));
            assert!(changes.has_changed().expect("the broker lives"));
            changes.mark_unchanged();
            let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("b")]);
            let _: DeleteTopicsResponse = broker.ask(ApiKey::DeleteTopics, 1, request).await;
        }
        assert_eq!(offsets.0.lock().len(), 12);
        broker.broker.topics.finish_deletions().await.expect("nothing is left to finish");
        assert_eq!(offsets.0.lock().len(), 12);
        drop(offsets);
        assert!(broker.restart().await.broker.topics.all().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_says_why() {
        let broker = TestBroker::start().await;
        create(&broker, &["a", "b", "keep"]).await;
        let id = |name: &str| broker.broker.topics.get(name).expect("created").id;
        let topics = vec![
            by_name("none"),
            by_id(Uuid::from_u128(5)),
            DeleteTopicState::default().with_name(None),
            by_name("keep").with_topic_id(id("keep")),
            by_name("a"),
            by_name("a"),
            by_name("b"),
            by_id(id("b")),
        ];
        let request = DeleteTopicsRequest::default().with_topics(topics);
        let response: DeleteTopicsResponse = broker.ask(ApiKey::DeleteTopics, 6, request).await;
        let invalid = Some(ErrorCode::InvalidRequest);
        let told: Vec<_> = response
            .responses
            .iter()
            .map(|result| (result.name.as_deref().map(|name| name.to_string()), error(result.error_code)))
            .collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            told,
            [
                (name("none"), Some(ErrorCode::UnknownTopicOrPartition)),
                (None, Some(ErrorCode::UnknownTopicId)),
                (None, invalid),
                (name("keep"), invalid),
                (name("a"), invalid),
                (name("b"), invalid),
                (None, invalid),
            ]
        );
        assert_eq!(broker.broker.topics.all().len(), 3);
    }

    #[tokio::test]
    async fn a_name_can_be_used_again_at_once() {
        let broker = TestBroker::start().await;
        create(&broker, &["a.b"]).await;
        let old = broker.broker.topics.get("a.b").expect("created");
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("a.b")]);
        let _: DeleteTopicsResponse = broker.ask(ApiKey::DeleteTopics, 5, request).await;
        assert_eq!(broker.broker.topics.colliding("a_b"), None);
        create(&broker, &["a.b"]).await;
        let new = broker.broker.topics.get("a.b").expect("created");
        assert_ne!(old.id, new.id);
        assert!(new.partitions.load().iter().all(|partition| !partition.is_deleted()));
    }
}
