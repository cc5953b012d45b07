//! What makes a view: a source, a filter, a topic with configs.

use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, TopicName,
    delete_topics_request::DeleteTopicState,
};
use krocket_protocol::{ApiKey, ErrorCode, StrBytes, api};
use krocket_stack::ledger::TopicInfo;
use krocket_stack::{Error, Handler, Head, Ledger, Message, Request};

use crate::expression::Expression;
use crate::registry::{Shared, configured};
use crate::tag::Tags;
use crate::view::{AUTO, FILTER, SOURCE};

/// How long a topic's creation may take, ms.
const TIMEOUT_MS: i32 = 30_000;
/// Between a source's name and the tags in the name of a view that comes with a subscription.
pub(crate) const SEPARATOR: &str = "--";

/// Why a view is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

fn refused(message: impl Into<String>) -> Refused {
    Refused { code: ErrorCode::InvalidConfig, message: message.into() }
}

/// The name of a view that comes with a subscription, taken apart: `orders--paid--refunded` is `orders` and
/// `paid || refunded`. `None` for a name of another kind, or where there is no such source.
pub(crate) fn auto<'a>(ledger: &dyn Ledger, name: &'a str) -> Option<(&'a str, String)> {
    let splits = (1..name.len()).rev().filter(|at| name[*at..].starts_with(SEPARATOR));
    for at in splits {
        let (source, tags) = (&name[..at], &name[at + SEPARATOR.len()..]);
        if ledger.topic(source).is_none() || configured(ledger, source).is_some() {
            continue;
        }
        let tags: Vec<&str> = tags.split(SEPARATOR).collect();
        if tags.iter().any(|tag| tag.is_empty()) {
            return None;
        }
        return Some((source, tags.join(" || ")));
    }
    None
}

impl Shared {
    /// Checks what a topic's configs would say; comes back with the source.
    pub(crate) fn check(&self, name: &str, source: Option<&str>, filter: Option<&str>) -> Result<TopicInfo, Refused> {
        let source = source.filter(|source| !source.is_empty());
        let Some(source) = source else {
            return Err(refused(format!("{FILTER} needs {SOURCE}: the topic that the view shows a part of")));
        };
        let Some(filter) = filter else {
            return Err(refused(format!(
                "{SOURCE} needs {FILTER}: tags such as 'paid || refunded', SQL, or * for all"
            )));
        };
        if source == name {
            return Err(refused("a view cannot be its own source"));
        }
        let Some(found) = self.ledger.topic(source) else {
            return Err(refused(format!("{SOURCE}: there is no topic '{source}'")));
        };
        if configured(&*self.ledger, source).is_some() {
            return Err(refused(format!("{SOURCE}: '{source}' is a view itself; name the topic that it shows")));
        }
        if let Some(other) = self.all().by_name.values().find(|view| view.source.as_str() == name) {
            return Err(refused(format!("'{name}' is the source of the view '{}': it cannot be a view", other.name)));
        }
        if !self.rules.get().topic(source).filter {
            return Err(refused(format!("a rule has filter = false for '{source}': it has no views")));
        }
        check_filter(filter).map_err(|why| refused(format!("{FILTER}: {why}")))?;
        Ok(found)
    }

    /// An existing topic is about to become a view of this source.
    pub(crate) fn check_topic(&self, name: &str, source: &TopicInfo) -> Result<(), Refused> {
        let Some(topic) = self.ledger.topic(name) else { return Ok(()) };
        if topic.partitions.len() != source.partitions.len() {
            let (ours, theirs) = (topic.partitions.len(), source.partitions.len());
            return Err(refused(format!(
                "'{name}' has {ours} partitions and '{}' has {theirs}: a view has its source's",
                source.name
            )));
        }
        if configured(&*self.ledger, name).is_some() {
            return Ok(());
        }
        let holds = |id: &u32| self.ledger.partition(*id).is_some_and(|partition| partition.end > 0);
        if topic.partitions.iter().any(holds) {
            return Err(refused(format!("'{name}' has had records of its own: only an empty topic can become a view")));
        }
        Ok(())
    }

    /// Makes a view by way of `next`.
    pub(crate) async fn create(
        &self,
        next: &dyn Handler,
        name: &str,
        source: &str,
        filter: &str,
        auto: bool,
    ) -> Result<(), Refused> {
        let found = self.check(name, Some(source), Some(filter))?;
        let mut configs = vec![(SOURCE, source), (FILTER, filter)];
        if auto {
            configs.push((AUTO, "true"));
        }
        let config = |(name, value): (&'static str, &str)| {
            CreatableTopicConfig::default().with_name(StrBytes::from_static_str(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(i32::try_from(found.partitions.len()).unwrap_or(i32::MAX))
            .with_replication_factor(-1)
            .with_configs(configs.into_iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let response: CreateTopicsResponse = self.ask(next, ApiKey::CreateTopics, request).await?;
        self.refresh();
        match response.topics.first() {
            Some(result) => answer(result.error_code, result.error_message.as_ref()),
            None => Ok(()),
        }
    }

    /// Gives a view another source or filter, and makes it a configured one.
    pub(crate) async fn alter(&self, name: &str, source: &str, filter: &str) -> Result<(), Refused> {
        let found = self.check(name, Some(source), Some(filter))?;
        self.check_topic(name, &found)?;
        let set = |(name, value): (&'static str, &str)| {
            AlterableConfig::default().with_name(StrBytes::from_static_str(name)).with_value(Some(text(value)))
        };
        let configs = [(SOURCE, source), (FILTER, filter), (AUTO, "false")].map(set).to_vec();
        let resource =
            AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(name)).with_configs(configs);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response: IncrementalAlterConfigsResponse =
            self.ask(&*self.next, ApiKey::IncrementalAlterConfigs, request).await?;
        self.refresh();
        match response.responses.first() {
            Some(result) => answer(result.error_code, result.error_message.as_ref()),
            None => Ok(()),
        }
    }

    /// Removes a view.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Refused> {
        let topic = DeleteTopicState::default().with_name(Some(TopicName(text(name))));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![topic])
            .with_topic_names(vec![TopicName(text(name))])
            .with_timeout_ms(TIMEOUT_MS);
        let response: DeleteTopicsResponse = self.ask(&*self.next, ApiKey::DeleteTopics, request).await?;
        self.refresh();
        match response.responses.first() {
            Some(result) => answer(result.error_code, result.error_message.as_ref()),
            None => Ok(()),
        }
    }

    /// Gives views that have fewer partitions than their source the missing ones.
    pub(crate) async fn grow(&self) {
        let all = self.all();
        let short = all.by_name.values().filter_map(|view| {
            let (own, source) = (self.ledger.topic(&view.name)?, self.ledger.topic(&view.source)?);
            (own.partitions.len() < source.partitions.len()).then(|| {
                CreatePartitionsTopic::default()
                    .with_name(TopicName(view.name.clone()))
                    .with_count(i32::try_from(source.partitions.len()).unwrap_or(i32::MAX))
                    .with_assignments(None)
            })
        });
        let topics: Vec<_> = short.collect();
        if topics.is_empty() {
            return;
        }
        let request = CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(TIMEOUT_MS);
        let grown: Result<CreatePartitionsResponse, _> = self.ask(&*self.next, ApiKey::CreatePartitions, request).await;
        match grown {
            Ok(grown) => {
                for result in grown.results.iter().filter(|result| result.error_code != 0) {
                    tracing::error!(view = %result.name.as_str(), message = ?result.error_message, "a view cannot grow with its source");
                }
            }
            Err(error) => tracing::error!(%error, "views cannot grow with their sources"),
        }
        self.refresh();
    }

    async fn ask<A: kafka_protocol::protocol::Decodable + Send + 'static>(
        &self,
        next: &dyn Handler,
        api: ApiKey,
        message: impl Message,
    ) -> Result<A, Refused> {
        let version = api::served(api).map_or(0, |api| api.max);
        let head = Head { api, version, client_id: None, connection: Arc::clone(&self.connection) };
        let asked = async { next.call(Request::new(head, message)).await?.into_message(version) };
        let answer: Result<A, Error> = asked.await;
        answer.map_err(|error| Refused { code: ErrorCode::UnknownServerError, message: error.to_string() })
    }
}

/// Parses a filter as views need it.
pub(crate) fn check_filter(filter: &str) -> Result<Expression, crate::FilterError> {
    let parsed = Expression::parse(filter)?;
    if filter.trim().is_empty() || matches!(&parsed, Expression::Tags(Tags::AnyOf(tags)) if tags.is_empty()) {
        let message = "the filter is empty; * shows everything".to_owned();
        return Err(crate::FilterError { column: 1, message });
    }
    Ok(parsed)
}

fn answer(code: i16, message: Option<&StrBytes>) -> Result<(), Refused> {
    match ErrorCode::try_from_code(code) {
        _ if code == 0 => Ok(()),
        found => {
            let code = found.unwrap_or(ErrorCode::UnknownServerError);
            let message = message.map_or_else(|| format!("{code:?}"), StrBytes::to_string);
            Err(Refused { code, message })
        }
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
