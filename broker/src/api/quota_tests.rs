//! DescribeClientQuotas and AlterClientQuotas, through their bytes; and what controller_mutation_rate does.

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::*;
use krocket_protocol::{ApiKey, ErrorCode};
use krocket_stack::security::QuotaKey;

use super::testing::{TestBroker, error, text, topic};

/// `""` for a default.
fn entity(parts: &[(&'static str, &'static str)]) -> Vec<EntityData> {
    let part = |(kind, name): &(&'static str, &'static str)| {
        let name = (!name.is_empty()).then(|| text(name));
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name)
    };
    parts.iter().map(part).collect()
}

/// NaN removes.
fn entry(parts: &[(&'static str, &'static str)], ops: &[(&'static str, f64)]) -> EntryData {
    let op = |(key, value): &(&'static str, f64)| match value.is_nan() {
        true => OpData::default().with_key(text(key)).with_remove(true),
        false => OpData::default().with_key(text(key)).with_value(*value),
    };
    EntryData::default().with_entity(entity(parts)).with_ops(ops.iter().map(op).collect())
}

async fn alter(broker: &TestBroker, version: i16, entries: Vec<EntryData>) -> Vec<(Option<ErrorCode>, String)> {
    let request = AlterClientQuotasRequest::default().with_entries(entries);
    let response: AlterClientQuotasResponse = broker.ask(ApiKey::AlterClientQuotas, version, request).await;
    let told = |entry: &alter_client_quotas_response::EntryData| {
        (error(entry.error_code), entry.error_message.as_deref().unwrap_or_default().to_owned())
    };
    response.entries.iter().map(told).collect()
}

/// (type, match type, name); as `user=u client-id=<default>: key=value`, sorted.
async fn describe(
    broker: &TestBroker,
    version: i16,
    components: &[(&'static str, i8, Option<&'static str>)],
    strict: bool,
) -> Result<Vec<String>, (Option<ErrorCode>, String)> {
    let component = |(kind, match_type, name): &(&'static str, i8, Option<&'static str>)| {
        ComponentData::default().with_entity_type(text(kind)).with_match_type(*match_type).with_match(name.map(text))
    };
    let request = DescribeClientQuotasRequest::default()
        .with_components(components.iter().map(component).collect())
        .with_strict(strict);
    let response: DescribeClientQuotasResponse = broker.ask(ApiKey::DescribeClientQuotas, version, request).await;
    let Some(entries) = response.entries else {
        return Err((error(response.error_code), response.error_message.as_deref().unwrap_or_default().to_owned()));
    };
    assert_eq!(error(response.error_code), None);
    let line = |entry: &describe_client_quotas_response::EntryData| {
        let name = |part: &describe_client_quotas_response::EntityData| {
            format!("{}={}", part.entity_type.as_str(), part.entity_name.as_deref().unwrap_or("<default>"))
        };
        let value =
            |value: &describe_client_quotas_response::ValueData| format!("{}={}", value.key.as_str(), value.value);
        let names: Vec<String> = entry.entity.iter().map(name).collect();
        let values: Vec<String> = entry.values.iter().map(value).collect();
        format!("{}: {}", names.join(" "), values.join(" "))
    };
    let mut lines: Vec<String> = entries.iter().map(line).collect();
    lines.sort();
    Ok(lines)
}

const REMOVE: f64 = f64::NAN;

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_found_and_removed_at_every_version_and_survive_a_restart() {
    for version in 0..=1 {
        let broker = TestBroker::start().await;
        let entries = vec![
            entry(&[("user", "u"), ("client-id", "c")], &[("producer_byte_rate", 1e6), ("consumer_byte_rate", 2e6)]),
            entry(&[("user", "u"), ("client-id", "")], &[("request_percentage", 12.5)]),
            entry(&[("user", "")], &[("controller_mutation_rate", 0.5)]),
            entry(&[("client-id", "c")], &[("producer_byte_rate", 1.0)]),
            entry(&[("ip", "10.0.0.1")], &[("connection_creation_rate", 5.0)]),
            entry(&[("ip", "")], &[("connection_creation_rate", 7.0)]),
        ];
        assert_eq!(alter(&broker, version, entries).await, vec![(None, String::new()); 6]);

        let broker = broker.restart().await;

        let everything = [
            "client-id=c: producer_byte_rate=1",
            "ip=10.0.0.1: connection_creation_rate=5",
            "ip=<default>: connection_creation_rate=7",
            "user=<default>: controller_mutation_rate=0.5",
            "user=u client-id=<default>: request_percentage=12.5",
            "user=u client-id=c: producer_byte_rate=1000000 consumer_byte_rate=2000000",
        ];
        assert_eq!(describe(&broker, version, &[], false).await.expect("found"), everything);
        assert!(broker.broker.quotas().in_force(&[QuotaKey::RequestPercentage]));
        let found = async |filter: &[(&'static str, i8, Option<&'static str>)], strict| {
            describe(&broker, version, filter, strict).await.expect("found")
        };
        assert_eq!(found(&[], true).await, [""; 0]);
        assert_eq!(found(&[("user", 0, Some("u"))], false).await, everything[4..]);
        assert_eq!(found(&[("user", 0, Some("u"))], true).await, [""; 0]);
        assert_eq!(found(&[("user", 2, None)], false).await, everything[3..]);
        assert_eq!(found(&[("user", 1, None)], true).await, everything[3..4]);
        assert_eq!(found(&[("user", 2, None), ("client-id", 1, None)], true).await, everything[4..5]);
        assert_eq!(found(&[("client-id", 0, Some("c"))], true).await, everything[..1]);
        assert_eq!(found(&[("ip", 2, None)], true).await, everything[1..3]);

        let entries = vec![
            entry(&[("user", "u"), ("client-id", "c")], &[("producer_byte_rate", REMOVE), ("consumer_byte_rate", 3.0)]),
            entry(&[("ip", "")], &[("connection_creation_rate", REMOVE)]),
            entry(&[("user", "nobody")], &[("producer_byte_rate", REMOVE), ("no_such_quota", REMOVE)]),
        ];
        assert_eq!(alter(&broker, version, entries).await, vec![(None, String::new()); 3]);
        let broker = broker.restart().await;
        let left = describe(&broker, version, &[], false).await.expect("found");
        assert_eq!(left.len(), 5);
        assert_eq!((left[1].as_str(), left[4].as_str()), (everything[1], "user=u client-id=c: consumer_byte_rate=3"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_quota_says_why_and_does_not_spoil_the_others() {
    let broker = TestBroker::start().await;
    let rate = &[("producer_byte_rate", 1.0)];
    let user = &[("user", "u")];
    let address = &[("ip", "10.0.0.1")];
    let cases: Vec<(EntryData, &str)> = vec![
        (entry(&[], rate), "Invalid empty client quota entity"),
        (entry(&[("group", "g")], rate), "Unhandled client quota entity type: group"),
        (entry(&[("user", "u"), ("user", "v")], rate), "duplicate entity entry user"),
        (entry(&[("user", "u"), ("ip", "::1")], rate), "IP entity should not be used"),
        (entry(&[("ip", "no such host")], &[("connection_creation_rate", 1.0)]), "not a valid IP"),
        (entry(user, &[("no_such_quota", 1.0)]), "Invalid configuration key no_such_quota"),
        (entry(user, &[("connection_creation_rate", 1.0)]), "Invalid configuration key connection_creation_rate"),
        (entry(address, rate), "Invalid configuration key producer_byte_rate"),
        (entry(user, &[("producer_byte_rate", 0.0)]), "must be greater than 0"),
        (entry(user, &[("request_percentage", -1.0)]), "must be greater than 0"),
        (entry(user, &[("request_percentage", f64::INFINITY)]), "must be greater than 0"),
        (entry(user, &[("producer_byte_rate", 1.5)]), "cannot be a fractional value"),
        (entry(user, &[("producer_byte_rate", 1e30)]), "too large for a LONG"),
        (entry(address, &[("connection_creation_rate", 1e10)]), "too large for a INT"),
    ];
    let (mut entries, why): (Vec<EntryData>, Vec<&str>) = cases.into_iter().unzip();
    let mut empty = entry(user, rate);
    empty.entity[0].entity_name = Some(text(""));
    entries.push(empty);
    entries.push(entry(user, &[("producer_byte_rate", 9.0)]));
    let told = alter(&broker, 1, entries).await;
    for ((code, message), why) in told.iter().zip(why.iter().chain([&"Empty user not supported"])) {
        assert_eq!(*code, Some(ErrorCode::InvalidRequest), "{why}");
        assert!(message.contains(why), "{message} instead of {why}");
    }
    assert_eq!(told[15], (None, String::new()));
    assert_eq!(describe(&broker, 1, &[], false).await, Ok(vec!["user=u: producer_byte_rate=9".to_owned()]));

    let request = AlterClientQuotasRequest::default()
        .with_entries(vec![entry(user, &[("producer_byte_rate", 5.0)]), entry(user, &[("x", 5.0)])])
        .with_validate_only(true);
    let response: AlterClientQuotasResponse = broker.ask(ApiKey::AlterClientQuotas, 1, request).await;
    let codes: Vec<_> = response.entries.iter().map(|entry| error(entry.error_code)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::InvalidRequest)]);
    assert_eq!(describe(&broker, 1, &[], false).await, Ok(vec!["user=u: producer_byte_rate=9".to_owned()]));
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_refused() {
    let broker = TestBroker::start().await;
    type Components = &'static [(&'static str, i8, Option<&'static str>)];
    let cases: &[(Components, ErrorCode, &str)] = &[
        (&[("", 0, Some("u"))], ErrorCode::InvalidRequest, "empty entity type"),
        (&[("user", 0, Some("u")), ("user", 2, None)], ErrorCode::InvalidRequest, "more than once"),
        (&[("group", 0, Some("u"))], ErrorCode::UnsupportedVersion, "Unsupported entity type: group"),
        (&[("user", 0, None)], ErrorCode::InvalidRequest, "match string to null"),
        (&[("user", 1, Some("u"))], ErrorCode::InvalidRequest, "also specified a match string"),
        (&[("user", 2, Some("u"))], ErrorCode::InvalidRequest, "also specified a match string"),
        (&[("user", 3, None)], ErrorCode::InvalidRequest, "Unknown match type 3"),
        (&[("ip", 2, None), ("user", 2, None)], ErrorCode::InvalidRequest, "IP filter component"),
    ];
    for (components, code, why) in cases {
        let (told, message) = describe(&broker, 1, components, false).await.expect_err("refused");
        assert_eq!(told, Some(*code), "{why}");
        assert!(message.contains(why), "{message} instead of {why}");
    }
}

/// A rate of one partition a second: a burst of eleven.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_created_and_deleted_at_the_rate_of_the_quota() {
    let broker = TestBroker::start().await;
    let rate = entry(&[("user", "")], &[("controller_mutation_rate", 0.001)]);
    assert_eq!(alter(&broker, 1, vec![rate]).await, [(None, String::new())]);
    let create = async |version: i16, name: &'static str, validate_only: bool| {
        let new = CreatableTopic::default().with_name(topic(name)).with_num_partitions(3).with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![new]).with_validate_only(validate_only);
        let response: CreateTopicsResponse = broker.ask(ApiKey::CreateTopics, version, request).await;
        (error(response.topics[0].error_code), response.throttle_time_ms > 0)
    };
    let exceeded = Some(ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!(create(7, "a", true).await, (None, false), "trying costs nothing");
    assert_eq!(create(7, "a", false).await, (None, false), "the bucket was not empty before");
    assert_eq!(create(7, "b", false).await, (exceeded, true));
    assert_eq!(create(5, "b", false).await, (None, true), "older clients don't know the error");

    let grow = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic("a"))
        .with_count(4)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![grow]);
    let strict: CreatePartitionsResponse = broker.ask(ApiKey::CreatePartitions, 3, request.clone()).await;
    assert_eq!((error(strict.results[0].error_code), strict.throttle_time_ms > 0), (exceeded, true));
    let old: CreatePartitionsResponse = broker.ask(ApiKey::CreatePartitions, 2, request).await;
    assert_eq!((error(old.results[0].error_code), old.throttle_time_ms > 0), (None, true));

    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("a")]);
    let strict: DeleteTopicsResponse = broker.ask(ApiKey::DeleteTopics, 5, request.clone()).await;
    assert_eq!((error(strict.responses[0].error_code), strict.throttle_time_ms > 0), (exceeded, true));
    let old: DeleteTopicsResponse = broker.ask(ApiKey::DeleteTopics, 4, request).await;
    assert_eq!((error(old.responses[0].error_code), old.throttle_time_ms > 0), (None, true));

    // Without the quota everything goes on at once.
    let removed = entry(&[("user", "")], &[("controller_mutation_rate", REMOVE)]);
    assert_eq!(alter(&broker, 1, vec![removed]).await, [(None, String::new())]);
    assert_eq!(create(7, "c", false).await, (None, false));
}
