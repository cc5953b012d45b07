//! Permissions as users meet them: they log in with SCRAM, and an admin gives and takes.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use krocket_config::security::Mechanism;
use krocket_protocol::records::builder::{BatchBuilder, LastOffset};
use krocket_stack::security::{Operation, ResourceType, ScramMechanism};
use krocket_testkit::{Client, Krocket};

use crate::sasl_client::scram;
use crate::world::listener;

const TOPIC_DENIED: i16 = 29;
const GROUP_DENIED: i16 = 30;
const CLUSTER_DENIED: i16 = 31;
const LITERAL: i8 = 3;
const ALLOW: i8 = 3;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

struct World {
    krocket: Krocket,
    admin: Client,
    _folder: tempfile::TempDir,
}

impl World {
    /// The admin is in the users file; alice and bob were made with Kafka's call.
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let users = folder.path().join("users.toml");
        std::fs::write(&users, "admin = \"root beer\"\n").expect("written");
        let krocket = Krocket::start_with(|config| {
            let mut sasl = listener("sasl", None);
            sasl.sasl = vec![Mechanism::ScramSha256];
            config.listeners = vec![sasl, listener("open", None)];
            config.security.users_file = Some(users);
            config.security.authorizer = true;
            config.security.super_users = vec!["User:admin".to_owned()];
        })
        .await;
        let admin = login(&krocket, "admin", "root beer").await;
        let mut world = World { krocket, admin, _folder: folder };
        for user in ["alice", "bob"] {
            let salted = ScramMechanism::Sha256.salted(user.as_bytes(), b"salt", 4096);
            let upsertion = ScramCredentialUpsertion::default()
                .with_name(text(user))
                .with_mechanism(ScramMechanism::Sha256 as i8)
                .with_iterations(4096)
                .with_salt(Bytes::from_static(b"salt"))
                .with_salted_password(salted.into());
            let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
            assert_eq!(world.admin.call(0, &request).await.results[0].error_code, 0, "{user}");
        }
        world
    }

    /// Whoever it is has their name for a password.
    async fn user(&self, name: &str) -> Client {
        login(&self.krocket, name, name).await
    }

    async fn create(&mut self, topic: &str, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(topic)))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let response = self.admin.call(7, &CreateTopicsRequest::default().with_topics(vec![topic])).await;
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    }

    async fn allow(&mut self, user: &str, operation: Operation, kind: ResourceType, name: &str) {
        let creation = AclCreation::default()
            .with_resource_type(kind as i8)
            .with_resource_name(text(name))
            .with_resource_pattern_type(LITERAL)
            .with_principal(text(&format!("User:{user}")))
            .with_host(text("*"))
            .with_operation(operation as i8)
            .with_permission_type(ALLOW);
        let response = self.admin.call(3, &CreateAclsRequest::default().with_creations(vec![creation])).await;
        assert_eq!(response.results[0].error_code, 0, "{response:?}");
    }

    async fn revoke(&mut self, user: &str, operation: Operation, kind: ResourceType, name: &str) {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(kind as i8)
            .with_resource_name_filter(Some(text(name)))
            .with_pattern_type_filter(LITERAL)
            .with_principal_filter(Some(text(&format!("User:{user}"))))
            .with_host_filter(None)
            .with_operation(operation as i8)
            .with_permission_type(ALLOW);
        let response = self.admin.call(3, &DeleteAclsRequest::default().with_filters(vec![filter])).await;
        assert_eq!(response.filter_results[0].matching_acls.len(), 1, "{response:?}");
    }
}

async fn login(krocket: &Krocket, user: &str, password: &str) -> Client {
    let mut client = Client::connect(krocket.listener("sasl")).await;
    assert_eq!(scram(&mut client, ScramMechanism::Sha256, user, password).await, Ok(0), "{user}");
    client
}

async fn produce(client: &mut Client, topic: &str) -> i16 {
    let mut batch = BatchBuilder::new(0, 1_700_000_000_000);
    batch.push(0, 1_700_000_000_000, None, Some(b"hello"), &[]);
    let records = batch.finish(LastOffset::Keep).expect("no codec").expect("one record");
    let partition = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    client.call(9, &request).await.responses[0].partition_responses[0].error_code
}

/// The error code, and whether records came.
async fn read(client: &mut Client, topic: &str) -> (i16, bool) {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![topic]);
    let response = client.call(11, &request).await;
    let partition = &response.responses[0].partitions[0];
    (partition.error_code, partition.records.as_ref().is_some_and(|records| !records.is_empty()))
}

async fn described(client: &mut Client, topic: &str) -> i16 {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
    client.call(9, &MetadataRequest::default().with_topics(Some(vec![topic]))).await.topics[0].error_code
}

async fn joined(client: &mut Client, group: &str) -> i16 {
    let request = FindCoordinatorRequest::default().with_key(text(group));
    client.call(3, &request).await.error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_does_what_was_granted_until_it_is_revoked() {
    let mut world = World::start().await;
    world.create("orders", &[]).await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let mut nobody = Client::connect(world.krocket.listener("open")).await;
    assert_eq!(
        (produce(&mut alice, "orders").await, read(&mut alice, "orders").await),
        (TOPIC_DENIED, (TOPIC_DENIED, false))
    );

    world.allow("alice", Operation::Write, ResourceType::Topic, "orders").await;
    world.allow("alice", Operation::Read, ResourceType::Topic, "orders").await;
    world.allow("alice", Operation::Read, ResourceType::Group, "billing").await;
    assert_eq!((produce(&mut alice, "orders").await, read(&mut alice, "orders").await), (0, (0, true)));
    assert_eq!((described(&mut alice, "orders").await, joined(&mut alice, "billing").await), (0, 0));
    // What is alice's is nobody else's.
    for stranger in [&mut bob, &mut nobody] {
        assert_eq!(produce(stranger, "orders").await, TOPIC_DENIED);
        assert_eq!(read(stranger, "orders").await, (TOPIC_DENIED, false));
        assert_eq!(
            (described(stranger, "orders").await, joined(stranger, "billing").await),
            (TOPIC_DENIED, GROUP_DENIED)
        );
        assert_eq!(stranger.call(1, &DescribeAclsRequest::default()).await.error_code, CLUSTER_DENIED);
    }

    // On the same connection, at the next request; what is left still holds.
    world.revoke("alice", Operation::Write, ResourceType::Topic, "orders").await;
    assert_eq!((produce(&mut alice, "orders").await, read(&mut alice, "orders").await), (TOPIC_DENIED, (0, true)));
    world.revoke("alice", Operation::Read, ResourceType::Group, "billing").await;
    world.revoke("alice", Operation::Read, ResourceType::Topic, "orders").await;
    assert_eq!(
        (read(&mut alice, "orders").await, joined(&mut alice, "billing").await),
        ((TOPIC_DENIED, false), GROUP_DENIED)
    );

    world.allow("alice", Operation::Write, ResourceType::Topic, "orders").await;
    let restarted = world.krocket.restart().await;
    let mut alice = login(&restarted, "alice", "alice").await;
    assert_eq!((produce(&mut alice, "orders").await, read(&mut alice, "orders").await.0), (0, TOPIC_DENIED));
    restarted.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_need_their_source_and_dead_letters_their_group() {
    let mut world = World::start().await;
    world.create("orders", &[]).await;
    world.create("paid", &[("krocket.view.source", "orders"), ("krocket.view.filter", "TAGS = 'paid'")]).await;
    // A group's topics come when one of them is asked for.
    assert_eq!(described(&mut world.admin, "retry.billing").await, 0);
    let mut alice = world.user("alice").await;

    world.allow("alice", Operation::Read, ResourceType::Topic, "paid").await;
    assert_eq!((described(&mut alice, "paid").await, read(&mut alice, "paid").await.0), (TOPIC_DENIED, TOPIC_DENIED));
    world.allow("alice", Operation::Read, ResourceType::Topic, "orders").await;
    assert_eq!((described(&mut alice, "paid").await, read(&mut alice, "paid").await.0), (0, 0));
    world.revoke("alice", Operation::Read, ResourceType::Topic, "orders").await;
    assert_eq!(read(&mut alice, "paid").await.0, TOPIC_DENIED);

    world.allow("alice", Operation::Read, ResourceType::Topic, "dlq.billing").await;
    assert_eq!(read(&mut alice, "dlq.billing").await, (TOPIC_DENIED, false));
    world.allow("alice", Operation::Read, ResourceType::Group, "billing").await;
    assert_eq!(read(&mut alice, "dlq.billing").await, (0, false));
    world.revoke("alice", Operation::Read, ResourceType::Group, "billing").await;
    assert_eq!(read(&mut alice, "dlq.billing").await, (TOPIC_DENIED, false));
    world.krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing_from_any_endpoint() {
    use krocket::http::auth::routes::{ROUTES, Rule};
    let mut world = World::start().await;
    world.create("orders", &[]).await;
    let http = world.krocket.http;
    let ask = async |method: &str, path: &str, user: Option<&str>| {
        let path = path.replace("{name}", "orders").replace("{id}", "orders:0:0").replace("{group}", "billing");
        tokio::time::timeout(Duration::from_secs(30), crate::http::request(http, method, &path, user))
            .await
            .expect("in time")
    };
    for (method, path, rule) in ROUTES {
        let nobody = ask(method.as_str(), path, None).await;
        assert!(
            nobody.starts_with("HTTP/1.1 401") && nobody.contains("Basic realm=\"krocket\""),
            "{method} {path}: {nobody}"
        );
        // Bob is known and may do nothing.
        let bob = ask(method.as_str(), path, Some("bob")).await;
        match rule {
            Rule::All(_) | Rule::NewView => assert!(bob.starts_with("HTTP/1.1 403"), "{method} {path}: {bob}"),
            Rule::Known | Rule::List(_) => {
                assert!(!bob.starts_with("HTTP/1.1 401") && !bob.contains("\"orders\""), "{method} {path}: {bob}");
            }
        }
    }
    world.krocket.stop().await;
}
