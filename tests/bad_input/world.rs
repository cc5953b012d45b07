//! A krocket to say nonsense to, and a look at all that it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{MetadataRequest, ProduceRequest, TopicName};
use krocket_config::Config;
use krocket_protocol::records::{BatchBuilder, Header, LastOffset};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_testkit::{Client, Krocket, soon};
use serde_json::{Value, json};

/// By name, without topic ids.
const PRODUCE: i16 = 9;
const METADATA: i16 = 12;
const WAIT: Duration = Duration::from_millis(5);

/// A record to send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rec {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record with a key and a value.
pub(crate) fn record(headers: &[(&str, &str)]) -> Rec {
    Rec { key: Some(b"key".to_vec()), value: Some(b"value".to_vec()), ..empty(headers) }
}

/// A record with neither: a nack by id, or a command.
pub(crate) fn empty(headers: &[(&str, &str)]) -> Rec {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())));
    Rec { headers: headers.collect(), ..Rec::default() }
}

impl Rec {
    /// With a header of any bytes, or of none.
    pub(crate) fn with(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }
}

/// A batch of these records, as a client writes it.
pub(crate) fn batch(records: &[Rec]) -> Vec<u8> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let mut builder = BatchBuilder::new(0, now);
    for (offset, record) in (0..).zip(records) {
        let headers = record.headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() });
        let headers: Vec<Header<'_>> = headers.collect();
        builder.push(offset, now, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    builder.finish(LastOffset::Trim).expect("builds").expect("records").to_vec()
}

/// How a batch was refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: i16,
    pub(crate) message: String,
    /// Places in the batch, and what is wrong there.
    pub(crate) records: Vec<(i32, String)>,
}

/// Everything that a refused batch could have changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// Partitions and where they end, hidden records included.
    ends: BTreeMap<String, i64>,
    scheduled: Value,
    transactions: Value,
    dead: Value,
}

pub(crate) struct World {
    pub(crate) krocket: Krocket,
    pub(crate) client: Client,
    /// Offsets below these are taken.
    taken: BTreeMap<String, i64>,
}

impl World {
    /// One where nothing that waits becomes due while a test runs. `topics` have two partitions each.
    pub(crate) async fn start(topics: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let krocket = Krocket::start_with(|config| {
            config.kafka.insert("num.partitions".to_owned(), "2".to_owned());
            let retry = json!({"groups": ["*"], "backoff": {"steps": ["1h"]}, "max_attempts": 3});
            config.retry.push(serde_json::from_value(retry).expect("a policy"));
            change(config);
            let rule = json!({"topics": ["*"], "half": {"immunity": "1h"}});
            config.rules.push(serde_json::from_value(rule).expect("a rule"));
        })
        .await;
        let client = krocket.client().await;
        let mut world = World { krocket, client, taken: BTreeMap::new() };
        for topic in topics {
            assert_eq!(world.ask_for(topic).await, 0, "{topic}");
        }
        world
    }

    /// The error with which Metadata tells of a topic; it may be created.
    pub(crate) async fn ask_for(&mut self, topic: &str) -> i16 {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(true);
        self.client.call(METADATA, &request).await.topics.remove(0).error_code
    }

    pub(crate) async fn send(&mut self, topic: &str, records: &[Rec]) -> Result<i64, Refused> {
        self.send_bytes(topic, 0, batch(records)).await
    }

    /// The base offset, or how it was refused.
    pub(crate) async fn send_bytes(&mut self, topic: &str, partition: i32, batch: Vec<u8>) -> Result<i64, Refused> {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
        let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
        let answer = self.client.call(PRODUCE, &request).await.responses.remove(0).partition_responses.remove(0);
        if answer.error_code == 0 {
            return Ok(answer.base_offset);
        }
        let text = |message: Option<StrBytes>| message.map(|message| message.to_string()).unwrap_or_default();
        let records = answer.record_errors.into_iter();
        Err(Refused {
            code: answer.error_code,
            message: text(answer.error_message),
            records: records.map(|error| (error.batch_index, text(error.batch_index_error_message))).collect(),
        })
    }

    /// Sends one record that has to be taken; its offset in partition 0.
    pub(crate) async fn take(&mut self, topic: &str, record: Rec) -> i64 {
        self.send(topic, std::slice::from_ref(&record))
            .await
            .unwrap_or_else(|refused| panic!("{record:?}: {refused:?}"))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.krocket.http);
        let asked = tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
            let mut response = agent.get(&url).call().expect("answers");
            let body = response.body_mut().read_to_vec().expect("a body");
            let json = serde_json::from_slice(&body);
            (response.status().as_u16(), json.unwrap_or_else(|_| panic!("{url}: {}", String::from_utf8_lossy(&body))))
        });
        asked.await.expect("no panic")
    }

    /// The record at an id, if there is one, hidden or not.
    pub(crate) async fn record(&self, id: &str) -> Option<Value> {
        let (status, record) = self.get(&format!("/v1/messages/{id}")).await;
        (status == 200).then_some(record)
    }

    /// Waits for a record.
    pub(crate) async fn appears(&self, id: &str) -> Value {
        soon(id, async {
            loop {
                match self.record(id).await {
                    Some(record) => return record,
                    None => tokio::time::sleep(WAIT).await,
                }
            }
        })
        .await
    }

    /// Waits for a topic.
    pub(crate) async fn appears_topic(&self, topic: &str) {
        soon(topic, async {
            while self.get(&format!("/v1/topics/{topic}")).await.0 != 200 {
                tokio::time::sleep(WAIT).await;
            }
        })
        .await;
    }

    /// All that is stored and all that waits.
    pub(crate) async fn held(&mut self) -> Held {
        let (_, topics) = self.get("/v1/topics").await;
        let mut ends = BTreeMap::new();
        for topic in topics["items"].as_array().expect("topics") {
            for partition in 0..topic["partitions"].as_i64().expect("a number") {
                let partition = format!("{}:{partition}", topic["name"].as_str().expect("a name"));
                let mut end = self.taken.get(&partition).copied().unwrap_or(0);
                while self.record(&format!("{partition}:{end}")).await.is_some() {
                    end += 1;
                }
                self.taken.insert(partition.clone(), end);
                ends.insert(partition, end);
            }
        }
        let (_, scheduled) = self.get("/v1/scheduled").await;
        let (_, transactions) = self.get("/v1/transactions").await;
        let (_, dead) = self.get("/v1/dlq").await;
        Held { ends, scheduled, transactions, dead }
    }

    /// Sends each row between two records that are in order, in one batch: it is refused because of that record, in these
    /// words, and nothing has changed.
    pub(crate) async fn refuses(&mut self, topic: &str, rows: Vec<(Rec, &str)>) {
        let (mut wrong, before) = (Vec::new(), self.held().await);
        for (row, words) in rows {
            let place = 1;
            let sent = self.send(topic, &[record(&[]), row.clone(), record(&[])]).await;
            let right = matches!(&sent, Err(Refused { code, message, records })
                if *code == ErrorCode::InvalidRecord.code() && message.contains(words)
                    && *records == [(place, message.clone())]);
            if !right {
                wrong.push(format!("{topic}, {row:?}: {words:?} was expected, not {sent:?}"));
            } else if self.held().await != before {
                panic!("{row:?} has left something behind");
            }
        }
        assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
