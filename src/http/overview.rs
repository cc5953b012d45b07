//! GET /v1/overview: everything at one moment, for `krocket top` and for the metrics.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use krocket_features::http::{ErrorBody, Problem};
use krocket_protocol::ApiKey;
use prometheus::proto::MetricFamily;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::groups::{self, GroupDetail};
use super::kafka::{EARLIEST, Kafka, LATEST};

pub(super) fn routes(kafka: Kafka) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(overview)).with_state(kafka)
}

/// krocket at one moment. Counters are those since it was started: two answers give rates.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Overview {
    /// When, epoch ms.
    pub at_ms: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Records appended.
    pub appended_records: u64,
    /// Bytes of record batches appended.
    pub appended_bytes: u64,
    /// Bytes of record batches read for fetches.
    pub fetched_bytes: u64,
    /// Parked records delivered.
    pub delivered: u64,
    /// Records that wait, by what for; counted every ten seconds at most.
    pub parked: BTreeMap<String, u64>,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU seconds used.
    pub cpu_seconds: f64,
    /// Topics and configured views by name.
    pub topics: Vec<TopicNow>,
    /// Groups by id.
    pub groups: Vec<GroupNow>,
}

/// A topic.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct TopicNow {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// Offsets given out, over all partitions.
    pub offsets: u64,
    /// Offsets between the starts and the ends.
    pub retained: u64,
    /// Bytes in the log.
    pub bytes: u64,
}

/// A group.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct GroupNow {
    /// Its id.
    pub group: String,
    /// `classic`, `consumer`, `share` or `streams`.
    pub r#type: String,
    /// Stable, Empty, ...
    pub state: String,
    /// How many members it has.
    pub members: usize,
    /// Records that it has yet to read.
    pub lag: u64,
}

/// Traffic, topics and groups at one moment.
#[utoipa::path(
    get, path = "/v1/overview", tag = "overview",
    responses((status = 200, body = Overview), (status = 503, body = ErrorBody))
)]
async fn overview(State(kafka): State<Kafka>) -> Result<Json<Overview>, Problem> {
    let (topics, groups) = (topics(&kafka).await?, groups::all(&kafka).await?);
    let counters = Counters(prometheus::gather());
    let size = |topic: &Ends| TopicNow {
        name: topic.name.clone(),
        partitions: topic.partitions.len(),
        offsets: topic.offsets(),
        retained: topic.retained(),
        bytes: topic.bytes,
    };
    Ok(Json(Overview {
        at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        connections: counters.sum("krocket_connections") as u64,
        requests: counters.sum("krocket_requests_total") as u64,
        appended_records: counters.sum("krocket_log_appended_records_total") as u64,
        appended_bytes: counters.sum("krocket_log_appended_bytes_total") as u64,
        fetched_bytes: counters.sum("krocket_log_fetched_bytes_total") as u64,
        delivered: counters.sum("krocket_delivered_total") as u64,
        parked: counters.by_label("krocket_parked_records"),
        memory_bytes: counters.sum("process_resident_memory_bytes") as u64,
        cpu_seconds: counters.sum("process_cpu_seconds_total"),
        topics: topics.iter().map(size).collect(),
        groups: groups.into_iter().map(now).collect(),
    }))
}

fn now(group: GroupDetail) -> GroupNow {
    let lag = u64::try_from(group.lag).unwrap_or(0);
    GroupNow { group: group.group, r#type: group.r#type, state: group.state, members: group.members.len(), lag }
}

/// Where a topic's partitions start and end.
pub(super) struct Ends {
    pub(super) name: String,
    /// Index, start and end.
    pub(super) partitions: Vec<(i32, i64, i64)>,
    pub(super) bytes: u64,
}

impl Ends {
    pub(super) fn offsets(&self) -> u64 {
        self.partitions.iter().map(|(_, _, end)| u64::try_from(*end).unwrap_or(0)).sum()
    }

    pub(super) fn retained(&self) -> u64 {
        self.partitions.iter().map(|(_, start, end)| u64::try_from(end - start).unwrap_or(0)).sum()
    }
}

/// All topics; one that is deleted meanwhile may be without partitions.
pub(super) async fn topics(kafka: &Kafka) -> Result<Vec<Ends>, Problem> {
    let sizes = sizes(kafka).await?;
    let topic = |topic: MetadataResponseTopic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.name.map(|name| name.to_string()).unwrap_or_default(), partitions)
    };
    let mut topics: Vec<(String, Vec<i32>)> = kafka.topics(None, false).await?.into_iter().map(topic).collect();
    topics.sort_unstable();
    let starts = kafka.offsets_of(topics.clone(), EARLIEST).await?;
    let mut ends: BTreeMap<String, Vec<(i32, i64, i64)>> = BTreeMap::new();
    for (at, end) in kafka.offsets_of(topics.clone(), LATEST).await? {
        if let Some(start) = starts.get(&at) {
            ends.entry(at.0).or_default().push((at.1, *start, end));
        }
    }
    let ends = topics.into_iter().map(|(name, _)| Ends {
        partitions: ends.remove(&name).unwrap_or_default(),
        bytes: sizes.get(&name).copied().unwrap_or(0),
        name,
    });
    Ok(ends.collect())
}

async fn sizes(kafka: &Kafka) -> Result<BTreeMap<String, u64>, Problem> {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let response: DescribeLogDirsResponse = kafka.ask(ApiKey::DescribeLogDirs, request).await?;
    let topics = response.results.into_iter().flat_map(|dir| dir.topics);
    let size = |partitions: Vec<i64>| partitions.into_iter().map(|size| u64::try_from(size).unwrap_or(0)).sum();
    Ok(topics
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| partition.partition_size).collect();
            (topic.name.to_string(), size(partitions))
        })
        .collect())
}

/// What was counted since the start.
struct Counters(Vec<MetricFamily>);

impl Counters {
    fn family(&self, name: &str) -> Option<&MetricFamily> {
        self.0.iter().find(|family| family.name() == name)
    }

    /// Over all labels.
    fn sum(&self, name: &str) -> f64 {
        let metrics = self.family(name).map(|family| family.get_metric()).unwrap_or_default();
        metrics.iter().map(value).sum()
    }

    /// By the first label.
    fn by_label(&self, name: &str) -> BTreeMap<String, u64> {
        let metrics = self.family(name).map(|family| family.get_metric()).unwrap_or_default();
        metrics
            .iter()
            .filter_map(|metric| Some((metric.get_label().first()?.value().to_owned(), value(metric) as u64)))
            .collect()
    }
}

fn value(metric: &prometheus::proto::Metric) -> f64 {
    // Whichever it is not is 0.
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}
