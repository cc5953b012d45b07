//! A member of a share group (KIP-932), over a connection that may break.

use std::collections::BTreeMap;
use std::io;

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch as Said,
};
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch as SaidOnTheWay, FetchPartition, FetchTopic};
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{
    GroupId, IncrementalAlterConfigsRequest, MetadataRequest, ShareGroupHeartbeatRequest, TopicName,
};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchHeader, Records};
use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest;
use krocket_protocol::share_fetch::ShareFetchRequest;

use crate::session::Session;

const GROUP_RESOURCE: i8 = 32;
const HEARTBEAT: i16 = 1;
const FETCH: i16 = 2;
const ACKNOWLEDGE: i16 = 2;
const METADATA: i16 = 12;
const ALTER_CONFIGS: i16 = 1;
const LIMIT: usize = 64 << 20;

/// Partition and offset.
pub type Place = (i32, i64);

/// A member's word for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with.
    Accept = 1,
    /// Once more.
    Release = 2,
    /// Dead.
    Reject = 3,
    /// Still at it.
    Renew = 4,
}

/// A record that was given to a member.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Where it is.
    pub place: Place,
    /// The how manyeth delivery it says it is.
    pub count: i16,
    /// Empty where the answer does not have its bytes.
    pub value: String,
}

/// What a fetch asks for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Longest wait, ms.
    pub wait_ms: i32,
    /// How many records.
    pub records: i32,
    /// Not one more (KIP-1206).
    pub exact: bool,
}

/// What a fetch brings.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// In the order of the answer.
    pub records: Vec<Taken>,
    /// What came of the words on the way, by partition.
    pub codes: BTreeMap<i32, i16>,
}

/// One member of a group over one topic, and its connection.
pub struct ShareMember {
    session: Session,
    group: String,
    id: String,
    /// With the topic's id alone.
    topic: FetchTopic,
    partitions: i32,
    /// Of the member.
    member_epoch: i32,
    /// Of the share session; 0 begins it.
    epoch: i32,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Sets configs of a group.
pub async fn configure(session: &mut Session, group: &str, configs: &[(&str, &str)]) -> io::Result<()> {
    let config = |(name, value): &(&str, &str)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(0).with_value(Some(text(value)))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP_RESOURCE)
        .with_resource_name(text(group))
        .with_configs(configs.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = session.call(ALTER_CONFIGS, &request).await?;
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    Ok(())
}

/// In each function the outer error is a connection that broke, the inner one the server's code.
impl ShareMember {
    /// Joins a group that reads all partitions of a topic.
    pub async fn join(
        mut session: Session,
        group: &str,
        id: &str,
        topic: &str,
        partitions: i32,
    ) -> io::Result<Result<Self, i16>> {
        let wanted = vec![MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))))];
        let request = MetadataRequest::default().with_topics(Some(wanted));
        let found = session.call(METADATA, &request).await?.topics.remove(0);
        if found.error_code != 0 {
            return Ok(Err(found.error_code));
        }
        let (group, id) = (group.to_owned(), id.to_owned());
        let of = FetchTopic::default().with_topic_id(found.topic_id);
        let mut member = ShareMember { session, group, id, topic: of, partitions, member_epoch: 0, epoch: 0 };
        Ok(member.heartbeat(Some(vec![TopicName(text(topic))])).await?.map(|()| member))
    }

    /// Says that it is still there.
    pub async fn beat(&mut self) -> io::Result<Result<(), i16>> {
        self.heartbeat(None).await
    }

    async fn heartbeat(&mut self, topics: Option<Vec<TopicName>>) -> io::Result<Result<(), i16>> {
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.member_epoch)
            .with_subscribed_topic_names(topics);
        let response = self.session.call(HEARTBEAT, &request).await?;
        if response.error_code != 0 {
            return Ok(Err(response.error_code));
        }
        self.member_epoch = response.member_epoch;
        Ok(Ok(()))
    }

    /// True before the first fetch, which may not have words on the way.
    pub fn is_new(&self) -> bool {
        self.epoch == 0
    }

    /// Asks for records, with words on the way.
    pub async fn fetch(&mut self, want: &Want, words: &[(Place, Verdict)]) -> io::Result<Result<Fetched, i16>> {
        let request = self.asks(want, words);
        let answer = self.session.call(FETCH, &request).await?.0;
        let partitions: Vec<PartitionData> = answer.responses.into_iter().flat_map(|topic| topic.partitions).collect();
        let mut codes = std::iter::once(answer.error_code).chain(partitions.iter().map(|data| data.error_code));
        if let Some(code) = codes.find(|code| *code != 0) {
            return Ok(Err(code));
        }
        self.epoch += 1;
        let codes = partitions.iter().map(|data| (data.partition_index, data.acknowledge_error_code)).collect();
        Ok(Ok(Fetched { records: partitions.iter().flat_map(taken).collect(), codes }))
    }

    /// Asks for records, and does not take the answer.
    pub async fn ask(&mut self, want: &Want) -> io::Result<()> {
        let request = self.asks(want, &[]);
        self.session.send(FETCH, &request).await.map(drop)
    }

    /// Says words; what came of them, by partition.
    pub async fn acknowledge(&mut self, words: &[(Place, Verdict)]) -> io::Result<Result<BTreeMap<i32, i16>, i16>> {
        let mut partitions: BTreeMap<i32, Vec<Said>> = BTreeMap::new();
        for ((partition, offset), verdict) in words {
            let said = Said::default().with_first_offset(*offset).with_last_offset(*offset);
            partitions.entry(*partition).or_default().push(said.with_acknowledge_types(vec![*verdict as i8]));
        }
        let partition = |(index, said)| {
            AcknowledgePartition::default().with_partition_index(index).with_acknowledgement_batches(said)
        };
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic.topic_id);
        let request = ShareAcknowledgeRequest {
            is_renew_ack: words.iter().any(|(_, verdict)| *verdict == Verdict::Renew),
            topics: vec![topic.with_partitions(partitions.into_iter().map(partition).collect())],
            ..self.empty(self.epoch)
        };
        let response = self.session.call(ACKNOWLEDGE, &request).await?;
        if response.error_code != 0 {
            return Ok(Err(response.error_code));
        }
        self.epoch += 1;
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        Ok(Ok(partitions.map(|partition| (partition.partition_index, partition.error_code)).collect()))
    }

    /// Closes its share session: what it holds comes again at once.
    pub async fn close(mut self) -> io::Result<Result<(), i16>> {
        let request = self.empty(-1);
        let response = self.session.call(ACKNOWLEDGE, &request).await?;
        Ok(if response.error_code == 0 { Ok(()) } else { Err(response.error_code) })
    }

    fn empty(&self, epoch: i32) -> ShareAcknowledgeRequest {
        ShareAcknowledgeRequest {
            group_id: Some(text(&self.group)),
            member_id: Some(text(&self.id)),
            share_session_epoch: epoch,
            ..ShareAcknowledgeRequest::default()
        }
    }

    fn asks(&self, want: &Want, words: &[(Place, Verdict)]) -> ShareFetchRequest {
        let partition = |index| {
            let said = words.iter().filter(|((partition, _), _)| *partition == index).map(|((_, offset), verdict)| {
                let said = SaidOnTheWay::default().with_first_offset(*offset).with_last_offset(*offset);
                said.with_acknowledge_types(vec![*verdict as i8])
            });
            FetchPartition::default().with_partition_index(index).with_acknowledgement_batches(said.collect())
        };
        ShareFetchRequest {
            group_id: Some(text(&self.group)),
            member_id: Some(text(&self.id)),
            share_session_epoch: self.epoch,
            max_wait_ms: want.wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: want.records,
            batch_size: want.records,
            share_acquire_mode: i8::from(want.exact),
            topics: vec![self.topic.clone().with_partitions((0..self.partitions).map(partition).collect())],
            ..ShareFetchRequest::default()
        }
    }
}

/// The records that an answer gives to the member, with their bytes.
fn taken(data: &PartitionData) -> Vec<Taken> {
    let mut values = BTreeMap::new();
    let mut bytes = data.records.clone().unwrap_or_default();
    while let Ok(header) = BatchHeader::read(&bytes) {
        let batch = bytes.split_to(header.len);
        for record in &Records::open(&batch, &header, LIMIT).expect("it opens") {
            let record = record.expect("a sound record");
            values.insert(record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
        }
    }
    let runs = data
        .acquired_records
        .iter()
        .flat_map(|run| (run.first_offset..=run.last_offset).map(|offset| (offset, run.delivery_count)));
    runs.map(|(offset, count)| Taken {
        place: (data.partition_index, offset),
        count,
        value: values.remove(&offset).unwrap_or_default(),
    })
    .collect()
}
