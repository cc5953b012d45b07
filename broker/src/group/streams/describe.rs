//! Streams groups as administrators see them.

use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_describe::{
    Assignment, DescribedGroup, DescribedMember, DescribedSubtopology, DescribedTopology,
};
use krocket_protocol::streams_group_heartbeat::{Endpoint, KeyValue, TopicInfo};

use super::StreamsGroup;
use super::member::{Member, task_ids};
use super::topology::{InternalTopic, Subtopology, topic_info};
use crate::group::context::{maybe_text, text};
use crate::group::coordinator::Coordinator;

impl Coordinator {
    /// StreamsGroupDescribe, one group.
    pub fn describe_streams_group(&self, id: &str) -> DescribedGroup {
        let described = match id {
            "" => DescribedGroup { error_code: ErrorCode::InvalidGroupId.code(), ..DescribedGroup::default() },
            id => self.read_streams(id, describe).unwrap_or_else(|refusal| DescribedGroup {
                error_code: refusal.code.code(),
                error_message: Some(text(&refusal.message)),
                ..DescribedGroup::default()
            }),
        };
        DescribedGroup { group_id: text(id), authorized_operations: i32::MIN, ..described }
    }
}

fn describe(group: &StreamsGroup) -> DescribedGroup {
    let info = |(name, topic): (&String, &InternalTopic)| {
        let decided = group.configured.as_ref().and_then(|configured| configured.internal.get(name));
        let info = topic_info(name, topic);
        TopicInfo { partitions: decided.copied().unwrap_or(info.partitions), ..info }
    };
    let subtopology = |(id, part): (&String, &Subtopology)| DescribedSubtopology {
        subtopology_id: text(id),
        source_topics: part.sources.iter().map(|topic| text(topic)).collect(),
        repartition_sink_topics: part.sinks.iter().map(|topic| text(topic)).collect(),
        state_changelog_topics: part.changelogs.iter().map(info).collect(),
        repartition_source_topics: part.repartitions.iter().map(info).collect(),
    };
    let subtopologies = group.topology.subtopologies.iter().map(subtopology).collect();
    DescribedGroup {
        group_state: text(group.state()),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        topology: Some(DescribedTopology { epoch: group.topology.epoch, subtopologies: Some(subtopologies) }),
        members: group.members.values().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn member(member: &Member) -> DescribedMember {
    // Until it has given them up a member answers for the tasks that it is to lose.
    let active = member.assigned.active.keys().chain(member.revoking.active.keys());
    let standby = member.assigned.standby.iter().chain(&member.revoking.standby);
    DescribedMember {
        member_id: text(&member.id),
        member_epoch: member.epoch,
        instance_id: maybe_text(member.instance_id.as_deref()),
        rack_id: maybe_text(member.rack_id.as_deref()),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        topology_epoch: member.topology_epoch,
        process_id: text(&member.process_id),
        user_endpoint: member.endpoint.as_ref().map(|(host, port)| Endpoint { host: text(host), port: *port }),
        client_tags: member
            .client_tags
            .iter()
            .map(|(key, value)| KeyValue { key: text(key), value: text(value) })
            .collect(),
        task_offsets: member.offsets.clone(),
        task_end_offsets: member.end_offsets.clone(),
        assignment: Assignment {
            active_tasks: task_ids(active),
            standby_tasks: task_ids(standby),
            warmup_tasks: Vec::new(),
        },
        target_assignment: Assignment {
            active_tasks: task_ids(&member.target.active),
            standby_tasks: task_ids(&member.target.standby),
            warmup_tasks: Vec::new(),
        },
        is_classic: false,
    }
}
