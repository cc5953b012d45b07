//! Kafka requests that HTTP endpoints make.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use kafka_protocol::messages::{
    ListOffsetsRequest as AskOffsets, MetadataRequest, MetadataResponse, TopicName,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
    metadata_response::MetadataResponseTopic,
};
use kafka_protocol::protocol::Decodable;
use krocket_features::http::Problem;
use krocket_protocol::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use krocket_protocol::{ApiKey, ErrorCode, StrBytes, api};
use krocket_stack::{Connection, Handler, Head, Message, Request};

/// ListOffsets' timestamp for the log start.
pub const EARLIEST: i64 = -2;
/// ListOffsets' timestamp for the high watermark.
pub const LATEST: i64 = -1;

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

tokio::task_local! {
    /// Who asked over HTTP, where that is known: the requests made for them are theirs.
    pub(super) static CALLER: Arc<Connection>;
}

/// Asks the whole stack, as a client would.
#[derive(Clone)]
pub struct Kafka {
    handler: Arc<dyn Handler>,
    connection: Arc<Connection>,
}

impl Kafka {
    /// Asks this handler.
    pub fn new(handler: Arc<dyn Handler>) -> Self {
        // Not an internal connection: layers do for these requests what they do for clients'.
        let connection = Connection {
            id: u64::MAX,
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            listener: "http".to_owned(),
            software: Default::default(),
            authenticated: Default::default(),
        };
        Kafka { handler, connection: Arc::new(connection) }
    }

    /// Asks at the highest version that is served.
    pub async fn ask<A: Decodable + Any + Send>(&self, api: ApiKey, message: impl Message) -> Result<A, Problem> {
        let version = api::served(api).map_or(0, |api| api.max);
        self.ask_at(api, version, message).await
    }

    /// Asks at this version.
    pub async fn ask_at<A: Decodable + Any + Send>(
        &self,
        api: ApiKey,
        version: i16,
        message: impl Message,
    ) -> Result<A, Problem> {
        let head = Head {
            api,
            version,
            client_id: Some(StrBytes::from_static_str("krocket-http")),
            connection: CALLER.try_with(Arc::clone).unwrap_or_else(|_| self.connection.clone()),
        };
        let response = self.handler.call(Request::new(head, message)).await?;
        Ok(response.into_message(version)?)
    }

    /// Topics as clients see them: all of them, or this one.
    pub async fn topics(&self, name: Option<&str>, create: bool) -> Result<Vec<MetadataResponseTopic>, Problem> {
        let asked = name.map(|name| vec![MetadataRequestTopic::default().with_name(Some(topic_name(name)))]);
        let request = MetadataRequest::default().with_topics(asked).with_allow_auto_topic_creation(create);
        let response: MetadataResponse = self.ask(ApiKey::Metadata, request).await?;
        Ok(response.topics)
    }

    /// One topic.
    pub async fn topic(&self, name: &str, create: bool) -> Result<MetadataResponseTopic, Problem> {
        let mut topics = self.topics(Some(name), create).await?;
        let topic = topics.pop().ok_or_else(|| Problem::not_found(format!("there is no topic \"{name}\"")))?;
        check(topic.error_code, None, || format!("topic \"{name}\""))?;
        Ok(topic)
    }

    /// Offsets of partitions at a time; a partition that cannot answer is left out.
    pub async fn offsets(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        at: i64,
    ) -> Result<Vec<(i32, i64)>, Problem> {
        let asked = vec![(topic.to_owned(), partitions.into_iter().collect())];
        let found = self.offsets_of(asked, at).await?;
        Ok(found.into_iter().map(|((_, partition), offset)| (partition, offset)).collect())
    }

    /// The same for partitions of many topics, with one request.
    pub async fn offsets_of(&self, topics: Vec<(String, Vec<i32>)>, at: i64) -> Result<Offsets, Problem> {
        let partition = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(at);
        let topic = |(name, partitions): (String, Vec<i32>)| {
            let partitions = partitions.into_iter().map(partition).collect();
            ListOffsetsTopic::default().with_name(topic_name(&name)).with_partitions(partitions)
        };
        let topics = topics.into_iter().map(topic).collect();
        let request = AskOffsets::default().with_replica_id((-1).into()).with_topics(topics);
        let ListOffsetsResponse(response) = self.ask(ApiKey::ListOffsets, ListOffsetsRequest(request)).await?;
        let found = response.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let good = topic.partitions.into_iter().filter(|found| found.error_code == 0);
            good.map(move |found| ((name.clone(), found.partition_index), found.offset))
        });
        Ok(found.collect())
    }
}

/// A topic's name as messages want it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Kafka's error code as an HTTP status and a sentence.
pub fn check(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> Result<(), Problem> {
    if code == 0 {
        return Ok(());
    }
    let name = ErrorCode::try_from_code(code).map_or_else(|| code.to_string(), |code| format!("{code:?}"));
    let status = match ErrorCode::try_from_code(code) {
        Some(
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::GroupIdNotFound
            | ErrorCode::UnknownTopicId
            | ErrorCode::ResourceNotFound,
        ) => StatusCode::NOT_FOUND,
        Some(
            ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed,
        ) => StatusCode::FORBIDDEN,
        Some(code) if code.is_retriable() => StatusCode::SERVICE_UNAVAILABLE,
        Some(ErrorCode::KafkaStorageError | ErrorCode::UnknownServerError) | None => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) => StatusCode::BAD_REQUEST,
    };
    let what = what();
    let sentence = match message {
        Some(message) => format!("{what}: {message} ({name})"),
        None => format!("{what}: {name}"),
    };
    Err(Problem::new(status, sentence))
}
