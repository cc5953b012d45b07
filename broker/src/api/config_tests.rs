//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources, asked together as a tool asks them.

use std::sync::Arc;

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig as Replacement,
};
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResponse, DescribeConfigsResult};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::{
    AlterConfigsResponse, IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use krocket_protocol::{ApiKey, ErrorCode};
use parking_lot::Mutex;

use super::testing::{TestBroker, error, text};
use crate::Settings;
use crate::config::logger::Loggers;
use crate::topics::{Edit, NewTopic, Topic};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

impl TestBroker {
    async fn topic(&self, name: &str) -> Arc<Topic> {
        let change = self.broker.topics.change().await;
        let new = NewTopic { name: name.to_owned(), id: change.new_id(), partitions: 1, configs: Default::default() };
        change.commit(vec![Edit::Create(new)]).await.expect("created");
        self.broker.topics.get(name).expect("created")
    }

    async fn describe_at(&self, version: i16, kind: i8, name: &'static str) -> DescribeConfigsResult {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let mut response: DescribeConfigsResponse = self.ask(ApiKey::DescribeConfigs, version, request).await;
        response.results.remove(0)
    }

    /// The config's value and source.
    async fn describe(&self, kind: i8, name: &'static str, key: &str) -> (String, i8) {
        let result = self.describe_at(4, kind, name).await;
        assert_eq!(error(result.error_code), None, "{result:?}");
        let config = result.configs.iter().find(|config| config.name.as_str() == key).expect("a config of that name");
        (config.value.as_ref().expect("a value").to_string(), config.config_source)
    }

    async fn incremental(
        &self,
        kind: i8,
        name: &'static str,
        ops: &[(&'static str, i8, Option<&'static str>)],
        validate_only: bool,
    ) -> Result<(), (ErrorCode, String)> {
        let configs = ops.iter().map(|(key, op, value)| {
            AlterableConfig::default().with_name(text(key)).with_config_operation(*op).with_value(value.map(text))
        });
        let resource = IncrementalResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        let request =
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
        let response: IncrementalAlterConfigsResponse = self.ask(ApiKey::IncrementalAlterConfigs, 1, request).await;
        let response = &response.responses[0];
        match error(response.error_code) {
            None => Ok(()),
            Some(code) => Err((code, response.error_message.as_deref().unwrap_or_default().to_owned())),
        }
    }

    async fn set(&self, kind: i8, name: &'static str, key: &'static str, value: &'static str) {
        self.incremental(kind, name, &[(key, SET, Some(value))], false).await.expect("set");
    }

    async fn replace(
        &self,
        kind: i8,
        name: &'static str,
        configs: &[(&'static str, Option<&'static str>)],
        version: i16,
    ) -> Result<(), (ErrorCode, String)> {
        let configs =
            configs.iter().map(|(key, value)| Replacement::default().with_name(text(key)).with_value(value.map(text)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let response: AlterConfigsResponse = self.ask(ApiKey::AlterConfigs, version, request).await;
        match error(response.responses[0].error_code) {
            None => Ok(()),
            Some(code) => Err((code, response.responses[0].error_message.as_deref().unwrap_or_default().to_owned())),
        }
    }
}

#[tokio::test]
async fn no_field_of_a_topics_configs_is_blank() {
    let broker = TestBroker::start().await;
    broker.topic("t").await;
    broker.set(TOPIC, "t", "retention.ms", "5").await;
    for version in 1..=4 {
        let result = broker.describe_at(version, TOPIC, "t").await;
        assert_eq!((error(result.error_code), result.resource_type, result.resource_name.as_str()), (None, TOPIC, "t"));
        assert_eq!(result.configs.len(), crate::config::topic::TABLE.len());
        for config in &result.configs {
            assert!(config.value.is_some() && config.config_source > 0 && !config.synonyms.is_empty(), "{config:?}");
            assert!(!config.is_sensitive && !config.read_only);
            if version >= 3 {
                assert!(config.config_type > 0 && config.documentation.is_some(), "{config:?}");
            }
        }
        let retention = result.configs.iter().find(|config| config.name.as_str() == "retention.ms").expect("a row");
        let synonyms: Vec<_> =
            retention.synonyms.iter().map(|s| (s.name.as_str(), s.value.as_deref(), s.source)).collect();
        assert_eq!(synonyms, [("retention.ms", Some("5"), 1), ("log.retention.ms", Some("604800000"), 5)]);
    }
}

#[tokio::test]
async fn keys_and_details_are_told_as_asked() {
    let broker = TestBroker::start().await;
    broker.topic("t").await;
    for (keys, count) in [(Some(vec!["retention.ms", "nothing"]), 1), (Some(vec![]), crate::config::topic::TABLE.len())]
    {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configuration_keys(keys.map(|keys| keys.into_iter().map(text).collect()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let response: DescribeConfigsResponse = broker.ask(ApiKey::DescribeConfigs, 4, request).await;
        let configs = &response.results[0].configs;
        assert_eq!(configs.len(), count);
        assert!(configs.iter().all(|config| config.synonyms.is_empty() && config.documentation.is_none()));
    }
}

#[tokio::test]
async fn what_cannot_be_described_says_why() {
    let broker = TestBroker::start().await;
    let cases = [
        (TOPIC, "none", ErrorCode::UnknownTopicOrPartition, ""),
        (TOPIC, "", ErrorCode::InvalidRequest, "Default topic"),
        (TOPIC, "a b", ErrorCode::InvalidTopicException, "ASCII"),
        (BROKER, "8", ErrorCode::InvalidRequest, "expected 7"),
        (BROKER, "x", ErrorCode::InvalidRequest, "must be an integer"),
        (BROKER_LOGGER, "", ErrorCode::InvalidRequest, "must not be empty"),
        (BROKER_LOGGER, "7", ErrorCode::InvalidRequest, "cannot be changed"),
        (CLIENT_METRICS, "x", ErrorCode::InvalidRequest, "no client metrics"),
        (GROUP, "", ErrorCode::InvalidRequest, "Default group"),
        (9, "x", ErrorCode::InvalidRequest, "Unknown resource type 9"),
    ];
    for (kind, name, code, why) in cases {
        let result = broker.describe_at(4, kind, name).await;
        assert_eq!((error(result.error_code), result.resource_type), (Some(code), kind), "{kind} {name}");
        assert!(result.error_message.as_deref().unwrap_or_default().contains(why), "{result:?}");
        assert!(result.configs.is_empty());
    }
}

#[tokio::test]
async fn a_topics_configs_change_and_stay_changed() {
    let broker = TestBroker::start().await;
    let topic = broker.topic("t").await;
    broker.set(TOPIC, "t", "max.message.bytes", "1000").await;
    broker.incremental(TOPIC, "t", &[("cleanup.policy", APPEND, Some("compact"))], false).await.expect("appended");
    assert_eq!(topic.config.load().max_message_bytes, 1000);
    assert!(topic.config.load().compact && topic.config.load().delete);
    drop(topic);
    let broker = broker.restart().await;
    assert_eq!(broker.describe(TOPIC, "t", "cleanup.policy").await, ("delete,compact".to_owned(), 1));
    let ops = [("cleanup.policy", SUBTRACT, Some("delete")), ("max.message.bytes", DELETE, None)];
    broker.incremental(TOPIC, "t", &ops, true).await.expect("valid");
    assert_eq!(broker.describe(TOPIC, "t", "max.message.bytes").await, ("1000".to_owned(), 1));
    broker.incremental(TOPIC, "t", &ops, false).await.expect("changed");
    assert_eq!(broker.describe(TOPIC, "t", "max.message.bytes").await, ("1048588".to_owned(), 5));
    let topic = broker.broker.topics.get("t").expect("there");
    assert!(topic.config.load().compact && !topic.config.load().delete);
}

#[tokio::test]
async fn replacing_configs_takes_back_what_is_not_named() {
    let broker = TestBroker::start().await;
    broker.topic("t").await;
    for version in 0..=2 {
        broker.set(TOPIC, "t", "max.message.bytes", "1000").await;
        broker.replace(TOPIC, "t", &[("retention.ms", Some("9"))], version).await.expect("replaced");
        assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await, ("9".to_owned(), 1));
        assert_eq!(broker.describe(TOPIC, "t", "max.message.bytes").await, ("1048588".to_owned(), 5));
    }
    let cases = [
        (TOPIC, "t", vec![("retention.ms", None)], ErrorCode::InvalidRequest),
        (TOPIC, "t", vec![("retention.ms", Some("1")), ("retention.ms", Some("2"))], ErrorCode::InvalidRequest),
        (TOPIC, "t", vec![("nothing", Some("1"))], ErrorCode::InvalidConfig),
        (TOPIC, "none", vec![("retention.ms", Some("1"))], ErrorCode::UnknownTopicOrPartition),
        (BROKER_LOGGER, "7", vec![("root", Some("INFO"))], ErrorCode::InvalidRequest),
    ];
    for (kind, name, configs, code) in cases {
        let refused = broker.replace(kind, name, &configs, 2).await.expect_err("refused");
        assert_eq!(refused.0, code, "{configs:?}: {}", refused.1);
    }
    assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await, ("9".to_owned(), 1));
}

#[tokio::test]
async fn what_cannot_be_set_says_why_and_changes_nothing() {
    let broker = TestBroker::start().await;
    broker.topic("t").await;
    type Ops = Vec<(&'static str, i8, Option<&'static str>)>;
    let cases: Vec<(i8, &'static str, Ops, ErrorCode, &str)> = vec![
        (TOPIC, "t", vec![("x", SET, Some("1"))], ErrorCode::InvalidConfig, "Unknown topic config name: x"),
        (TOPIC, "t", vec![("retention.ms", SET, None)], ErrorCode::InvalidRequest, "Null value"),
        (TOPIC, "t", vec![("retention.ms", APPEND, Some("1"))], ErrorCode::InvalidConfig, "not LIST"),
        (TOPIC, "t", vec![("retention.ms", 4, Some("1"))], ErrorCode::InvalidRequest, "Unknown operations type 4"),
        (TOPIC, "t", vec![("compression.type", SET, Some("gzip"))], ErrorCode::InvalidConfig, "in the producer"),
        // The first is valid, but a resource changes as a whole or not at all.
        (
            TOPIC,
            "t",
            vec![("retention.ms", SET, Some("1")), ("segment.bytes", SET, Some("1"))],
            ErrorCode::InvalidConfig,
            "at least 1048576",
        ),
        (
            TOPIC,
            "t",
            vec![("min.compaction.lag.ms", SET, Some("9")), ("max.compaction.lag.ms", SET, Some("8"))],
            ErrorCode::InvalidConfig,
            "min.compaction.lag.ms (9)",
        ),
        (BROKER, "7", vec![("num.partitions", SET, Some("9"))], ErrorCode::InvalidRequest, "read-only"),
        (BROKER, "7", vec![("nothing", SET, Some("9"))], ErrorCode::InvalidRequest, "Unknown broker config name"),
        (BROKER, "8", vec![("log.retention.ms", SET, Some("9"))], ErrorCode::InvalidRequest, "expected 7"),
        (GROUP, "g", vec![("streams.num.warmup.replicas", SET, Some("9"))], ErrorCode::InvalidConfig, "Unknown group"),
        (
            GROUP,
            "g",
            vec![("streams.session.timeout.ms", SET, Some("9"))],
            ErrorCode::InvalidConfig,
            "group.streams.min",
        ),
        (
            GROUP,
            "g",
            vec![("streams.num.standby.replicas", SET, Some("3"))],
            ErrorCode::InvalidConfig,
            "group.streams.max.standby.replicas",
        ),
        (
            GROUP,
            "g",
            vec![("consumer.session.timeout.ms", SET, Some("9"))],
            ErrorCode::InvalidConfig,
            "group.consumer.min",
        ),
        (BROKER_LOGGER, "7", vec![("root", SET, Some("INFO"))], ErrorCode::InvalidRequest, "cannot be changed"),
    ];
    for (kind, name, ops, code, why) in cases {
        let (was, message) = broker.incremental(kind, name, &ops, false).await.expect_err("refused");
        assert_eq!(was, code, "{ops:?}: {message}");
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await.1, 5);
    assert!(broker.broker.configs.groups().is_empty());
}

#[tokio::test]
async fn topics_inherit_what_is_set_on_the_broker_and_on_all_brokers() {
    let broker = TestBroker::with(&[("log.retention.ms", "4")]).await;
    let topic = broker.topic("t").await;
    assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await, ("4".to_owned(), 4));
    broker.set(BROKER, "", "log.retention.ms", "3").await;
    assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await, ("3".to_owned(), 3));
    broker.set(BROKER, "7", "log.retention.ms", "2").await;
    assert_eq!(broker.describe(BROKER, "7", "log.retention.ms").await, ("2".to_owned(), 2));
    assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await, ("2".to_owned(), 2));
    assert_eq!(topic.config.load().retention_ms, Some(2));
    // Of all brokers only what was set is told.
    let result = broker.describe_at(4, BROKER, "").await;
    let told: Vec<_> = result.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref())).collect();
    assert_eq!(told, [("log.retention.ms", Some("3"))]);
    drop(topic);
    let broker = broker.restart().await;
    assert_eq!(broker.broker.topics.get("t").expect("there").config.load().retention_ms, Some(2));
    broker.incremental(BROKER, "7", &[("log.retention.ms", DELETE, None)], false).await.expect("deleted");
    assert_eq!(broker.broker.topics.get("t").expect("there").config.load().retention_ms, Some(3));
}

#[tokio::test]
async fn the_broker_tells_how_it_was_started() {
    let broker = TestBroker::with(&[("num.partitions", "6")]).await;
    assert_eq!(broker.describe(BROKER, "7", "node.id").await, ("7".to_owned(), 4));
    assert_eq!(broker.describe(BROKER, "7", "advertised.listeners").await.0, "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(broker.describe(BROKER, "7", "num.partitions").await, ("6".to_owned(), 4));
    assert!(broker.describe(BROKER, "7", "log.dirs").await.0.starts_with('/'));
    let result = broker.describe_at(4, BROKER, "7").await;
    let read_only =
        |name: &str| result.configs.iter().find(|config| config.name.as_str() == name).expect("a config").read_only;
    assert!(read_only("num.partitions") && !read_only("log.retention.ms"));
    assert!(result.configs.iter().all(|config| config.value.as_deref().is_some_and(|value| !value.is_empty())));
}

#[tokio::test]
async fn group_configs_are_kept_and_listed() {
    let broker = TestBroker::start().await;
    assert_eq!(broker.describe(GROUP, "g", "consumer.session.timeout.ms").await, ("45000".to_owned(), 5));
    broker.set(GROUP, "g", "consumer.session.timeout.ms", "50000").await;
    let broker = broker.restart().await;
    assert_eq!(broker.describe(GROUP, "g", "consumer.session.timeout.ms").await, ("50000".to_owned(), 8));
    assert_eq!(broker.broker.configs.group("g").consumer_session_timeout_ms, 50_000);
    broker.topic("t").await;
    let list = async |version, kinds: Vec<i8>| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
        let response: ListConfigResourcesResponse = broker.ask(ApiKey::ListConfigResources, version, request).await;
        let resources = response.config_resources.into_iter();
        (
            error(response.error_code),
            resources.map(|each| format!("{} {}", each.resource_type, each.resource_name.as_str())).collect::<Vec<_>>(),
        )
    };
    assert_eq!(list(1, vec![]).await, (None, ["32 g", "8 7", "4 7", "2 t"].map(str::to_owned).to_vec()));
    assert_eq!(list(1, vec![GROUP]).await, (None, vec!["32 g".to_owned()]));
    assert_eq!(list(1, vec![3]).await, (Some(ErrorCode::UnsupportedVersion), vec![]));
    assert_eq!(list(0, vec![]).await, (None, vec![]));
    broker.incremental(GROUP, "g", &[("consumer.session.timeout.ms", DELETE, None)], false).await.expect("deleted");
    assert!(broker.broker.configs.groups().is_empty());
}

#[tokio::test]
async fn a_resource_named_twice_is_not_changed() {
    let broker = TestBroker::start().await;
    broker.topic("t").await;
    let resource = |value: &'static str| {
        let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text(value)));
        IncrementalResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(vec![config])
    };
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource("1"), resource("2")]);
    for version in 0..=1 {
        let response: IncrementalAlterConfigsResponse =
            broker.ask(ApiKey::IncrementalAlterConfigs, version, request.clone()).await;
        let codes: Vec<_> = response.responses.iter().map(|response| error(response.error_code)).collect();
        assert_eq!(codes, [Some(ErrorCode::InvalidRequest); 2]);
    }
    assert_eq!(broker.describe(TOPIC, "t", "retention.ms").await.1, 5);
}

struct Levels(Mutex<Vec<(String, String)>>);

impl Loggers for Levels {
    fn levels(&self) -> Vec<(String, String)> {
        self.0.lock().clone()
    }

    fn set(&self, logger: &str, level: Option<&str>) {
        let level = level.unwrap_or("INFO").to_owned();
        self.0.lock().iter_mut().filter(|(name, _)| name == logger).for_each(|entry| entry.1 = level.clone());
    }
}

#[tokio::test]
async fn log_levels_change_while_the_broker_runs() {
    let levels =
        Levels(Mutex::new(vec![("root".to_owned(), "INFO".to_owned()), ("krocket".to_owned(), "INFO".to_owned())]));
    let settings = Settings { node_id: 7, loggers: Some(Arc::new(levels)), ..Settings::default() };
    let broker = TestBroker::settings(settings).await;
    assert_eq!(broker.describe(BROKER_LOGGER, "7", "krocket").await, ("INFO".to_owned(), 6));
    broker.incremental(BROKER_LOGGER, "7", &[("krocket", SET, Some("DEBUG"))], true).await.expect("valid");
    assert_eq!(broker.describe(BROKER_LOGGER, "7", "krocket").await.0, "INFO");
    broker.set(BROKER_LOGGER, "7", "krocket", "DEBUG").await;
    assert_eq!(broker.describe(BROKER_LOGGER, "7", "krocket").await.0, "DEBUG");
    broker.incremental(BROKER_LOGGER, "7", &[("krocket", DELETE, None)], false).await.expect("deleted");
    assert_eq!(broker.describe(BROKER_LOGGER, "7", "krocket").await.0, "INFO");
    for (key, op, value, code) in [
        ("krocket", SET, Some("LOUD"), ErrorCode::InvalidConfig),
        ("nobody", SET, Some("INFO"), ErrorCode::InvalidConfig),
        ("root", DELETE, None, ErrorCode::InvalidRequest),
        ("root", APPEND, Some("INFO"), ErrorCode::InvalidRequest),
    ] {
        let refused = broker.incremental(BROKER_LOGGER, "7", &[(key, op, value)], false).await.expect_err("refused");
        assert_eq!(refused.0, code, "{}", refused.1);
    }
}
