//! GET /v1/topics, GET /v1/topics/{name}

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use krocket_features::http::{ErrorBody, Page, Paging, Problem};
use krocket_protocol::{ApiKey, StrBytes};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::kafka::{EARLIEST, Kafka, LATEST};

/// A topic in DescribeConfigs.
const TOPIC_RESOURCE: i8 = 2;
/// Where a config comes from: set on the topic itself.
const SET_ON_TOPIC: i8 = 1;

pub(super) fn routes(kafka: Kafka) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(topics)).routes(routes!(topic)).with_state(kafka)
}

/// A topic.
#[derive(Serialize, ToSchema)]
struct TopicSummary {
    /// Its name.
    name: String,
    /// Its id.
    id: String,
    /// How many partitions it has.
    partitions: usize,
}

/// Topics by name.
#[utoipa::path(
    get, path = "/v1/topics", tag = "topics", params(Paging),
    responses((status = 200, body = Page<TopicSummary>), (status = 400, body = ErrorBody))
)]
async fn topics(State(kafka): State<Kafka>, Query(paging): Query<Paging>) -> Result<Json<Page<TopicSummary>>, Problem> {
    let mut topics: Vec<TopicSummary> = kafka
        .topics(None, false)
        .await?
        .into_iter()
        .map(|topic| TopicSummary {
            name: topic.name.map(|name| name.to_string()).unwrap_or_default(),
            id: topic.topic_id.to_string(),
            partitions: topic.partitions.len(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    paging.page(topics, |topic| &topic.name).map(Json)
}

/// A topic in detail.
#[derive(Serialize, ToSchema)]
struct TopicDetail {
    /// Its name.
    name: String,
    /// Its id.
    id: String,
    /// Its partitions.
    partitions: Vec<PartitionDetail>,
    /// Configs that were set on the topic.
    configs: BTreeMap<String, String>,
}

/// A partition.
#[derive(Serialize, ToSchema)]
struct PartitionDetail {
    /// Its index.
    partition: i32,
    /// First offset that can be fetched.
    log_start: Option<i64>,
    /// End of the last visible record.
    high_watermark: Option<i64>,
}

/// One topic with its partitions' offsets and the configs set on it.
#[utoipa::path(
    get, path = "/v1/topics/{name}", tag = "topics", params(("name" = String, Path, description = "The topic")),
    responses((status = 200, body = TopicDetail), (status = 404, body = ErrorBody))
)]
async fn topic(State(kafka): State<Kafka>, Path(name): Path<String>) -> Result<Json<TopicDetail>, Problem> {
    let topic = kafka.topic(&name, false).await?;
    let mut partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
    partitions.sort_unstable();
    let earliest: BTreeMap<i32, i64> = kafka.offsets(&name, partitions.clone(), EARLIEST).await?.into_iter().collect();
    let latest: BTreeMap<i32, i64> = kafka.offsets(&name, partitions.clone(), LATEST).await?.into_iter().collect();
    let detail = |partition: i32| PartitionDetail {
        partition,
        log_start: earliest.get(&partition).copied(),
        high_watermark: latest.get(&partition).copied(),
    };
    Ok(Json(TopicDetail {
        id: topic.topic_id.to_string(),
        partitions: partitions.into_iter().map(detail).collect(),
        configs: configs(&kafka, &name).await?,
        name,
    }))
}

async fn configs(kafka: &Kafka, topic: &str) -> Result<BTreeMap<String, String>, Problem> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response: DescribeConfigsResponse = kafka.ask(ApiKey::DescribeConfigs, request).await?;
    let configs = response.results.into_iter().flat_map(|result| result.configs);
    let own = configs.filter(|config| config.config_source == SET_ON_TOPIC);
    Ok(own.map(|config| (config.name.to_string(), config.value.map(|v| v.to_string()).unwrap_or_default())).collect())
}
