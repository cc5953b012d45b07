//! What Prometheus hears of topics and groups, made when it asks: krocket's own names, and kafka_exporter's where they
//! are wanted, so that dashboards made for that keep working.

use prometheus::core::Collector;
use prometheus::{IntGaugeVec, Opts, proto::MetricFamily};

use super::groups::{self, GroupDetail};
use super::kafka::Kafka;
use super::overview::{self, Ends};
use krocket_features::http::Problem;

/// Which of them are made.
#[derive(Clone, Copy, Debug)]
pub struct Exported {
    /// A series a topic.
    pub topics: bool,
    /// A series a group, and one a topic that it reads.
    pub groups: bool,
    /// The names of danielqsj's kafka_exporter: a series a partition.
    pub kafka_exporter: bool,
}

/// Topics and groups as they are now.
pub(super) async fn gather(kafka: &Kafka, exported: Exported) -> Result<Vec<MetricFamily>, Problem> {
    let Exported { topics, groups, kafka_exporter } = exported;
    let ends = if topics || kafka_exporter { overview::topics(kafka).await? } else { Vec::new() };
    let read = if groups || kafka_exporter { groups::all(kafka).await? } else { Vec::new() };
    let mut families = Families::default();
    if topics {
        families.topics(&ends);
    }
    if groups {
        families.groups(&read);
    }
    if kafka_exporter {
        families.exporter_topics(&ends);
        families.exporter_groups(&read);
    }
    Ok(families.0)
}

/// The metric types of this scrape.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    /// Adds a gauge with a value for each set of labels.
    fn gauge(&mut self, name: &str, help: &str, labels: &[&str], rows: impl Iterator<Item = (Vec<String>, i64)>) {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("names and labels are right");
        for (values, value) in rows {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            gauge.with_label_values(&values).set(value);
        }
        // A family without a series cannot be written.
        self.0.extend(gauge.collect().into_iter().filter(|family| !family.get_metric().is_empty()));
    }

    fn topics(&mut self, topics: &[Ends]) {
        let rows = |value: fn(&Ends) -> u64| {
            topics.iter().map(move |topic| (vec![topic.name.clone()], i64::try_from(value(topic)).unwrap_or(i64::MAX)))
        };
        let all: [(&str, &str, fn(&Ends) -> u64); 4] = [
            ("krocket_topic_partitions", "Partitions of a topic", |topic| topic.partitions.len() as u64),
            (
                "krocket_topic_end_offsets",
                "Sum of the ends of a topic's partitions: its rate is records/s",
                Ends::offsets,
            ),
            (
                "krocket_topic_retained_offsets",
                "Offsets between starts and ends of a topic's partitions",
                Ends::retained,
            ),
            ("krocket_topic_size_bytes", "Bytes of a topic's batches in the log", |topic| topic.bytes),
        ];
        for (name, help, value) in all {
            self.gauge(name, help, &["topic"], rows(value));
        }
    }

    fn groups(&mut self, groups: &[GroupDetail]) {
        let members = groups.iter().map(|group| {
            (vec![group.group.clone(), group.r#type.clone(), group.state.clone()], group.members.len() as i64)
        });
        let help = "Members of a group, with its type and state";
        self.gauge("krocket_group_members", help, &["group", "type", "state"], members);
        let lag = groups.iter().flat_map(by_topic).map(|(group, topic, lag)| (vec![group, topic], lag));
        self.gauge("krocket_group_lag", "Records of a topic that a group has yet to read", &["group", "topic"], lag);
    }

    fn exporter_topics(&mut self, topics: &[Ends]) {
        let partitions = topics.iter().map(|topic| (vec![topic.name.clone()], topic.partitions.len() as i64));
        self.gauge("kafka_brokers", "Number of Brokers in the Kafka Cluster.", &[], std::iter::once((vec![], 1)));
        self.gauge("kafka_topic_partitions", "Number of partitions for this Topic", &["topic"], partitions);
        let each = |value: fn(i64, i64) -> i64| {
            topics.iter().flat_map(move |topic| {
                topic
                    .partitions
                    .iter()
                    .map(move |(index, start, end)| (vec![topic.name.clone(), index.to_string()], value(*start, *end)))
            })
        };
        let labels = ["topic", "partition"];
        let all: [(&str, &str, fn(i64, i64) -> i64); 7] = [
            ("current_offset", "Current Offset of a Broker at Topic/Partition", |_, end| end),
            ("oldest_offset", "Oldest Offset of a Broker at Topic/Partition", |start, _| start),
            ("leader", "Leader Broker ID of this Topic/Partition", |_, _| 1),
            ("leader_is_preferred", "1 if Topic/Partition is using the Preferred Broker", |_, _| 1),
            ("replicas", "Number of Replicas for this Topic/Partition", |_, _| 1),
            ("in_sync_replica", "Number of In-Sync Replicas for this Topic/Partition", |_, _| 1),
            ("under_replicated_partition", "1 if Topic/Partition is under Replicated", |_, _| 0),
        ];
        for (name, help, value) in all {
            self.gauge(&format!("kafka_topic_partition_{name}"), help, &labels, each(value));
        }
    }

    fn exporter_groups(&mut self, groups: &[GroupDetail]) {
        let members = groups.iter().map(|group| (vec![group.group.clone()], group.members.len() as i64));
        self.gauge("kafka_consumergroup_members", "Amount of members in a consumer group", &["consumergroup"], members);
        let partitions = || {
            groups.iter().flat_map(|group| {
                group.partitions.iter().map(move |at| {
                    (vec![group.group.clone(), at.topic.clone(), at.partition.to_string()], at.committed, at.lag)
                })
            })
        };
        let labels = ["consumergroup", "topic", "partition"];
        let offsets = partitions().filter_map(|(labels, committed, _)| Some((labels, committed?)));
        let help = "Current Offset of a ConsumerGroup at Topic/Partition";
        self.gauge("kafka_consumergroup_current_offset", help, &labels, offsets);
        let lags = partitions().filter_map(|(labels, _, lag)| Some((labels, lag?)));
        let help = "Current Approximate Lag of a ConsumerGroup at Topic/Partition";
        self.gauge("kafka_consumergroup_lag", help, &labels, lags);
        let sums = groups.iter().flat_map(by_topic).map(|(group, topic, lag)| (vec![group, topic], lag));
        let help = "Current Approximate Lag of a ConsumerGroup at Topic for all partitions";
        self.gauge("kafka_consumergroup_lag_sum", help, &labels[..2], sums);
    }
}

/// A group's lag, topic by topic.
fn by_topic(group: &GroupDetail) -> Vec<(String, String, i64)> {
    let mut lags = std::collections::BTreeMap::new();
    for at in &group.partitions {
        *lags.entry(at.topic.clone()).or_insert(0) += at.lag.unwrap_or(0);
    }
    lags.into_iter().map(|(topic, lag)| (group.group.clone(), topic, lag)).collect()
}
