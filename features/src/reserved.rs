//! Names that clients cannot take: topics that belong to krocket come when their group does, and `__krocket*` never.

use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, MetadataRequest, MetadataResponse, TopicName,
};
use krocket_config::check::HIDDEN;
use krocket_config::rules::{Live, Prefixes};
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};
use krocket_stack::{BoxFuture, Error, Handler, Head, Layer, Request, Response};

/// Refuses to create topics with reserved names, on request or by being asked for.
pub struct Reserved {
    rules: Live,
}

impl Reserved {
    /// By the prefixes that hold now.
    pub fn new(rules: Live) -> Self {
        Reserved { rules }
    }
}

impl Layer for Reserved {
    fn name(&self) -> &'static str {
        "reserved"
    }

    fn wants(&self, api: ApiKey) -> bool {
        matches!(api, ApiKey::CreateTopics | ApiKey::Metadata)
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        Box::pin(async move {
            match request.head.api {
                ApiKey::CreateTopics => self.create_topics(request, next).await,
                ApiKey::Metadata => metadata(request, next).await,
                _ => next.call(request).await,
            }
        })
    }
}

impl Reserved {
    async fn create_topics(&self, request: Request, next: &dyn Handler) -> Result<Response, Error> {
        let (head, mut message) = request.into_message::<CreateTopicsRequest>()?;
        let prefixes = self.rules.get().prefixes.clone();
        let mut refused = Vec::new();
        message.topics.retain(|topic| match why_reserved(&prefixes, &topic.name) {
            Some(why) => {
                refused.push(
                    CreatableTopicResult::default()
                        .with_name(topic.name.clone())
                        .with_error_code(ErrorCode::InvalidTopicException.code())
                        .with_error_message(Some(StrBytes::from_string(why))),
                );
                false
            }
            None => true,
        });
        if refused.is_empty() {
            return next.call(Request::new(head, message)).await;
        }
        let mut response = match message.topics.is_empty() {
            true => CreateTopicsResponse::default(),
            false => {
                let version = head.version;
                next.call(Request::new(head, message)).await?.into_message(version)?
            }
        };
        response.topics.extend(refused);
        Ok(Response::new(response))
    }
}

/// Being asked for creates a topic where auto.create.topics.enable is on. Topics with krocket's prefixes may come so: a
/// consumer may subscribe before its group is there.
async fn metadata(request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<MetadataRequest>()?;
    let mut hidden = Vec::new();
    if let Some(topics) = &mut message.topics {
        topics.retain(|topic| match &topic.name {
            Some(name) if name.starts_with(HIDDEN) => {
                hidden.push(name.clone());
                false
            }
            _ => true,
        });
    }
    metadata_without(next, head, message, hidden, ErrorCode::InvalidTopicException).await
}

/// Passes on what is left of a Metadata request, and answers for the topics that were taken out of it.
pub async fn metadata_without(
    next: &dyn Handler,
    head: Head,
    message: MetadataRequest,
    names: Vec<TopicName>,
    code: ErrorCode,
) -> Result<Response, Error> {
    if names.is_empty() {
        return next.call(Request::new(head, message)).await;
    }
    let version = head.version;
    // In version 0 no topics means all.
    let nothing_left = message.topics.as_ref().is_some_and(Vec::is_empty);
    let mut response: MetadataResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    if nothing_left {
        response.topics.clear();
    }
    let refused = |name| MetadataResponseTopic::default().with_name(Some(name)).with_error_code(code.code());
    response.topics.extend(names.into_iter().map(refused));
    Ok(Response::new(response))
}

fn why_reserved(prefixes: &Prefixes, name: &str) -> Option<String> {
    if name.starts_with(HIDDEN) {
        return Some(format!("names that start with {HIDDEN} are krocket's own"));
    }
    let (_, group) = prefixes.kind(name)?;
    let prefix = &name[..name.len() - group.len()];
    Some(format!("topics that start with {prefix} belong to krocket, which creates them when their group appears"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use krocket_stack::{Connection, Stack};

    /// Creates whatever it is asked for.
    struct Creates;

    impl Handler for Creates {
        fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
            Box::pin(async move {
                if request.head.api == ApiKey::Metadata {
                    let (_, message) = request.into_message::<MetadataRequest>()?;
                    let topics = message.topics.unwrap_or_default().into_iter();
                    let topics = topics.map(|topic| MetadataResponseTopic::default().with_name(topic.name)).collect();
                    return Ok(Response::new(MetadataResponse::default().with_topics(topics)));
                }
                let (_, message) = request.into_message::<CreateTopicsRequest>()?;
                let topics = message.topics.into_iter();
                let topics = topics.map(|topic| CreatableTopicResult::default().with_name(topic.name)).collect();
                Ok(Response::new(CreateTopicsResponse::default().with_topics(topics)))
            })
        }
    }

    fn head(api: ApiKey, version: i16) -> Head {
        Head { api, version, client_id: None, connection: Arc::new(Connection::internal("test")) }
    }

    fn name(text: &'static str) -> TopicName {
        TopicName(StrBytes::from_static_str(text))
    }

    #[tokio::test]
    async fn reserved_names_are_refused_and_the_others_created() {
        let stack = Stack::new(Arc::new(Creates)).layer(Reserved::new(Live::default())).build();
        let names = ["orders", "retry.g", "dlq.g", "check.g", "__krocket_x", "retry", "__kafka"];
        let topics = names.iter().map(|text| CreatableTopic::default().with_name(name(text))).collect();
        let request = Request::new(head(ApiKey::CreateTopics, 7), CreateTopicsRequest::default().with_topics(topics));

        let response: CreateTopicsResponse =
            stack.call(request).await.expect("answers").into_message(7).expect("a response");

        let mut codes: Vec<(&str, i16)> =
            response.topics.iter().map(|topic| (topic.name.as_str(), topic.error_code)).collect();
        codes.sort_unstable();
        let expected = [
            ("__kafka", 0),
            ("__krocket_x", 17),
            ("check.g", 17),
            ("dlq.g", 17),
            ("orders", 0),
            ("retry", 0),
            ("retry.g", 17),
        ];
        assert_eq!(codes, expected);
    }

    #[tokio::test]
    async fn a_hidden_name_is_not_created_by_being_asked_for() {
        let stack = Stack::new(Arc::new(Creates)).layer(Reserved::new(Live::default())).build();
        let asked = ["orders", "retry.g", "__krocket_x"];
        let topics = asked.iter().map(|text| MetadataRequestTopic::default().with_name(Some(name(text)))).collect();
        let request = Request::new(head(ApiKey::Metadata, 12), MetadataRequest::default().with_topics(Some(topics)));

        let response: MetadataResponse =
            stack.call(request).await.expect("answers").into_message(12).expect("a response");

        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 0, 17]);
    }
}
