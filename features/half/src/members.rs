//! Whether anybody reads a topic: a check that nobody could have seen does not count.

use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse,
};
use krocket_features::admin::call;
use krocket_protocol::ApiKey;
use krocket_stack::{Error, Handler};

const LIST: i16 = 5;
const DESCRIBE: i16 = 5;
const DESCRIBE_CONSUMER: i16 = 0;

/// True when a live member of some consumer group has been given partitions of the topic.
pub(crate) async fn reads(next: &dyn Handler, topic: &str) -> Result<bool, Error> {
    let listed: ListGroupsResponse = call(next, ApiKey::ListGroups, LIST, ListGroupsRequest::default()).await?;
    let (consumer, classic): (Vec<_>, Vec<_>) =
        listed.groups.into_iter().partition(|group| group.group_type.eq_ignore_ascii_case("consumer"));
    let ids = |groups: Vec<kafka_protocol::messages::list_groups_response::ListedGroup>| -> Vec<GroupId> {
        groups.into_iter().map(|group| group.group_id).collect()
    };
    if !classic.is_empty() {
        let request = DescribeGroupsRequest::default().with_groups(ids(classic));
        let described: DescribeGroupsResponse = call(next, ApiKey::DescribeGroups, DESCRIBE, request).await?;
        let mut members = described.groups.iter().flat_map(|group| &group.members);
        // The assignment is the client's own format; a topic is spelt out in it, length first.
        let mut spelt = (topic.len() as i16).to_be_bytes().to_vec();
        spelt.extend_from_slice(topic.as_bytes());
        if members.any(|member| member.member_assignment.windows(spelt.len()).any(|window| window == spelt)) {
            return Ok(true);
        }
    }
    if consumer.is_empty() {
        return Ok(false);
    }
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids(consumer));
    let described: ConsumerGroupDescribeResponse =
        call(next, ApiKey::ConsumerGroupDescribe, DESCRIBE_CONSUMER, request).await?;
    let mut members = described.groups.iter().flat_map(|group| &group.members);
    Ok(members.any(|member| member.assignment.topic_partitions.iter().any(|assigned| *assigned.topic_name.0 == *topic)))
}
