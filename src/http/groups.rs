//! GET /v1/groups, GET /v1/groups/{group}

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, Query, State};
use bytes::{Buf, Bytes};
use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment, DescribeGroupsRequest,
    DescribeGroupsResponse, GroupId, ListGroupsRequest, ListGroupsResponse, OffsetFetchResponse,
    ShareGroupDescribeRequest, ShareGroupDescribeResponse,
};
use kafka_protocol::protocol::Decodable;
use krocket_features::http::{ErrorBody, Page, Paging, Problem};
use krocket_protocol::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse,
};
use krocket_protocol::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest};
use krocket_protocol::streams_group_describe::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};
use krocket_protocol::{ApiKey, StrBytes};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::kafka::{Kafka, LATEST, check};

pub(super) fn routes(kafka: Kafka) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(groups)).routes(routes!(group)).with_state(kafka)
}

/// A consumer or share group.
#[derive(Clone, Serialize, ToSchema)]
struct GroupSummary {
    /// Its id.
    group: String,
    /// `classic`, `consumer` (KIP-848), `share` (KIP-932) or `streams` (KIP-1071).
    r#type: String,
    /// Stable, Empty, PreparingRebalance, ...
    state: String,
}

/// Consumer and share groups by id.
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups", params(Paging),
    responses((status = 200, body = Page<GroupSummary>), (status = 400, body = ErrorBody))
)]
async fn groups(State(kafka): State<Kafka>, Query(paging): Query<Paging>) -> Result<Json<Page<GroupSummary>>, Problem> {
    paging.page(list(&kafka).await?, |group| &group.group).map(Json)
}

async fn list(kafka: &Kafka) -> Result<Vec<GroupSummary>, Problem> {
    let response: ListGroupsResponse = kafka.ask(ApiKey::ListGroups, ListGroupsRequest::default()).await?;
    check(response.error_code, None, || "groups".to_owned())?;
    let summary = |group: kafka_protocol::messages::list_groups_response::ListedGroup| GroupSummary {
        group: group.group_id.to_string(),
        r#type: group.group_type.to_lowercase(),
        state: group.group_state.to_string(),
    };
    let mut groups: Vec<_> = response.groups.into_iter().map(summary).collect();
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(groups)
}

/// A consumer or share group in detail.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupDetail {
    /// Its id.
    pub(super) group: String,
    /// `classic`, `consumer` (KIP-848), `share` (KIP-932) or `streams` (KIP-1071).
    pub(super) r#type: String,
    /// Stable, Empty, PreparingRebalance, ...
    pub(super) state: String,
    /// Records between committed offsets and ends, of all partitions; for a share group those that it is not done with.
    pub(super) lag: i64,
    /// Who is in it.
    pub(super) members: Vec<Member>,
    /// Partitions with an offset or a reader.
    pub(super) partitions: Vec<Lag>,
}

/// A member of a group.
#[derive(Serialize, ToSchema)]
pub(super) struct Member {
    /// Its id.
    pub(super) id: String,
    /// group.instance.id, of a static member.
    pub(super) instance: Option<String>,
    /// What the client calls itself.
    pub(super) client_id: String,
    /// Its address.
    pub(super) host: String,
    /// What it reads, as topic:partition.
    pub(super) assigned: Vec<String>,
}

/// How far a group is in a partition.
#[derive(Serialize, ToSchema)]
pub(super) struct Lag {
    /// The topic.
    pub(super) topic: String,
    /// The partition.
    pub(super) partition: i32,
    /// The offset to read next, none before the first commit; for a share group the first that it is not done with.
    pub(super) committed: Option<i64>,
    /// The high watermark.
    pub(super) end: Option<i64>,
    /// How many offsets are between the two; for a share group only those that it is not done with.
    pub(super) lag: Option<i64>,
    /// Ids of the members that read it: more than one only in a share group.
    pub(super) members: Vec<String>,
}

type Partition = (String, i32);

struct Described {
    state: String,
    members: Vec<(Member, Vec<Partition>)>,
}

/// How far a group says it is in a partition.
#[derive(Clone, Copy)]
struct Reached {
    offset: i64,
    /// What is left to do, where that is not just what follows.
    lag: Option<i64>,
}

/// One group: members, committed offsets, ends and lag.
#[utoipa::path(
    get, path = "/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "The group's id")),
    responses((status = 200, body = GroupDetail), (status = 404, body = ErrorBody))
)]
async fn group(State(kafka): State<Kafka>, Path(group): Path<String>) -> Result<Json<GroupDetail>, Problem> {
    let summary = list(&kafka).await?.into_iter().find(|summary| summary.group == group);
    let summary = summary.ok_or_else(|| Problem::not_found(format!("there is no group \"{group}\"")))?;
    detail(&kafka, summary).await.map(Json)
}

/// All groups; one that goes away meanwhile is left out.
pub(super) async fn all(kafka: &Kafka) -> Result<Vec<GroupDetail>, Problem> {
    let mut details = Vec::new();
    for summary in list(kafka).await? {
        details.extend(detail(kafka, summary).await.ok());
    }
    Ok(details)
}

async fn detail(kafka: &Kafka, summary: GroupSummary) -> Result<GroupDetail, Problem> {
    let group = summary.group;
    let described = match summary.r#type.as_str() {
        "consumer" => consumer(kafka, &group).await?,
        "share" => share(kafka, &group).await?,
        "streams" => streams(kafka, &group).await?,
        _ => classic(kafka, &group).await?,
    };
    let reached = match summary.r#type.as_str() {
        "share" => shared(kafka, &group).await?,
        _ => committed(kafka, &group).await?,
    };
    let mut readers: BTreeMap<&Partition, Vec<&str>> = BTreeMap::new();
    for (member, assigned) in &described.members {
        assigned.iter().for_each(|partition| readers.entry(partition).or_default().push(&member.id));
    }
    let all: BTreeSet<&Partition> = reached.keys().chain(readers.keys().copied()).collect();
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &all {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    // A topic that was deleted has no ends; the group is shown all the same.
    let ends = kafka.offsets_of(topics.into_iter().collect(), LATEST).await?;
    let lag = |at: &Partition| {
        let (reached, end) = (reached.get(at), ends.get(at).copied());
        let members: Vec<String> = readers.get(at).into_iter().flatten().map(|member| (*member).to_owned()).collect();
        Lag {
            topic: at.0.clone(),
            partition: at.1,
            committed: reached.map(|reached| reached.offset),
            end,
            lag: reached.zip(end).map(|(reached, end)| reached.lag.unwrap_or((end - reached.offset).max(0))),
            members,
        }
    };
    let partitions: Vec<Lag> = all.iter().map(|at| lag(at)).collect();
    Ok(GroupDetail {
        group,
        r#type: summary.r#type,
        state: described.state,
        lag: partitions.iter().filter_map(|partition| partition.lag).sum(),
        partitions,
        members: described.members.into_iter().map(|(member, _)| member).collect(),
    })
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

fn named(assigned: &[Partition]) -> Vec<String> {
    assigned.iter().map(|(topic, partition)| format!("{topic}:{partition}")).collect()
}

async fn classic(kafka: &Kafka, group: &str) -> Result<Described, Problem> {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let response: DescribeGroupsResponse = kafka.ask(ApiKey::DescribeGroups, request).await?;
    let found = response.groups.into_iter().next();
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no group \"{group}\"")))?;
    check(found.error_code, found.error_message.as_deref(), || format!("group \"{group}\""))?;
    let members = found.members.into_iter().map(|member| {
        let assigned = assignment(member.member_assignment);
        let shown = Member {
            id: member.member_id.to_string(),
            instance: member.group_instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: named(&assigned),
        };
        (shown, assigned)
    });
    Ok(Described { state: found.group_state.to_string(), members: members.collect() })
}

/// A classic member's assignment. The bytes are the clients' own: what is not the consumer protocol shows as nothing.
fn assignment(mut bytes: Bytes) -> Vec<Partition> {
    if bytes.len() < 2 {
        return Vec::new();
    }
    // Higher versions only add to the end.
    let version = bytes.get_i16().clamp(0, 3);
    // The decoder reserves memory for counts that it reads; a count that the bytes cannot hold is not shown to it.
    let count = bytes.get(..4).and_then(|count| Some(i32::from_be_bytes(count.try_into().ok()?))).unwrap_or(0);
    if count < 0 || count as usize > bytes.len() / 6 {
        return Vec::new();
    }
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut bytes, version) else { return Vec::new() };
    let topics = assignment.assigned_partitions.into_iter();
    topics.flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic.to_string(), index))).collect()
}

async fn consumer(kafka: &Kafka, group: &str) -> Result<Described, Problem> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let response: ConsumerGroupDescribeResponse = kafka.ask(ApiKey::ConsumerGroupDescribe, request).await?;
    let found = response.groups.into_iter().next();
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no group \"{group}\"")))?;
    check(found.error_code, found.error_message.as_deref(), || format!("group \"{group}\""))?;
    let members = found.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        let assigned: Vec<Partition> = topics
            .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic_name.to_string(), index)))
            .collect();
        let shown = Member {
            id: member.member_id.to_string(),
            instance: member.instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: named(&assigned),
        };
        (shown, assigned)
    });
    Ok(Described { state: found.group_state.to_string(), members: members.collect() })
}

async fn share(kafka: &Kafka, group: &str) -> Result<Described, Problem> {
    let request = ShareGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let response: ShareGroupDescribeResponse = kafka.ask(ApiKey::ShareGroupDescribe, request).await?;
    let found = response.groups.into_iter().next();
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no group \"{group}\"")))?;
    check(found.error_code, found.error_message.as_deref(), || format!("group \"{group}\""))?;
    let members = found.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        let assigned: Vec<Partition> = topics
            .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic_name.to_string(), index)))
            .collect();
        let shown = Member {
            id: member.member_id.to_string(),
            instance: None,
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: named(&assigned),
        };
        (shown, assigned)
    });
    Ok(Described { state: found.group_state.to_string(), members: members.collect() })
}

/// Members of a streams group read what their active tasks do.
async fn streams(kafka: &Kafka, group: &str) -> Result<Described, Problem> {
    let request = StreamsGroupDescribeRequest {
        group_ids: vec![StrBytes::from_string(group.to_owned())],
        ..StreamsGroupDescribeRequest::default()
    };
    let response: StreamsGroupDescribeResponse = kafka.ask(ApiKey::StreamsGroupDescribe, request).await?;
    let found = response.groups.into_iter().next();
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no group \"{group}\"")))?;
    check(found.error_code, found.error_message.as_deref(), || format!("group \"{group}\""))?;
    let parts = found.topology.and_then(|topology| topology.subtopologies).unwrap_or_default();
    let members = found.members.into_iter().map(|member| {
        let mut assigned = Vec::new();
        for tasks in &member.assignment.active_tasks {
            for part in parts.iter().filter(|part| part.subtopology_id == tasks.subtopology_id) {
                let repartitioned = part.repartition_source_topics.iter().map(|topic| &topic.name);
                for topic in part.source_topics.iter().chain(repartitioned) {
                    assigned.extend(tasks.partitions.iter().map(|index| (topic.to_string(), *index)));
                }
            }
        }
        let shown = Member {
            id: member.member_id.to_string(),
            instance: member.instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: named(&assigned),
        };
        (shown, assigned)
    });
    Ok(Described { state: found.group_state.to_string(), members: members.collect() })
}

/// Where a share group starts in its partitions.
async fn shared(kafka: &Kafka, group: &str) -> Result<BTreeMap<Partition, Reached>, Problem> {
    let asked = DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
    let request = kafka_protocol::messages::DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]);
    let request = DescribeShareGroupOffsetsRequest(request);
    let response: DescribeShareGroupOffsetsResponse = kafka.ask(ApiKey::DescribeShareGroupOffsets, request).await?;
    let mut reached = BTreeMap::new();
    for found in response.groups {
        check(found.error_code, found.error_message.as_deref(), || format!("group \"{group}\""))?;
        for topic in found.topics {
            let known = topic.partitions.iter().filter(|partition| partition.start_offset >= 0);
            reached.extend(known.map(|at| {
                let lag = Some(at.lag).filter(|lag| *lag >= 0);
                ((topic.name.to_string(), at.index), Reached { offset: at.start_offset, lag })
            }));
        }
    }
    Ok(reached)
}

async fn committed(kafka: &Kafka, group: &str) -> Result<BTreeMap<Partition, Reached>, Problem> {
    let asked = OffsetFetchGroup { group_id: group_id(group), ..OffsetFetchGroup::default() };
    let request = OffsetFetchRequest { groups: vec![asked], require_stable: false };
    let response: OffsetFetchResponse = kafka.ask(ApiKey::OffsetFetch, request).await?;
    let mut committed = BTreeMap::new();
    for found in response.groups {
        check(found.error_code, None, || format!("group \"{group}\""))?;
        for topic in found.topics {
            let known = topic.partitions.iter().filter(|partition| partition.committed_offset >= 0);
            committed.extend(known.map(|at| {
                let reached = Reached { offset: at.committed_offset, lag: None };
                ((topic.name.to_string(), at.partition_index), reached)
            }));
        }
    }
    Ok(committed)
}
