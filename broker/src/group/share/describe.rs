//! Share groups as administrators see them.

use kafka_protocol::messages::share_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use krocket_protocol::ErrorCode;

use super::ShareGroup;
use crate::group::context::{maybe_text, text};
use crate::group::coordinator::Coordinator;
use crate::group::topics::TopicImage;

/// The only assignor of share groups.
const ASSIGNOR: &str = "simple";

impl Coordinator {
    /// ShareGroupDescribe, one group.
    pub fn describe_share_group(&self, id: &str) -> DescribedGroup {
        let described = match id {
            "" => DescribedGroup::default().with_error_code(ErrorCode::InvalidGroupId.code()),
            id => self.read_share(id, |group| describe(group, self.topics())).unwrap_or_else(|refusal| {
                DescribedGroup::default()
                    .with_error_code(refusal.code.code())
                    .with_error_message(Some(text(&refusal.message)))
            }),
        };
        described.with_group_id(text(id).into()).with_authorized_operations(i32::MIN)
    }
}

fn describe(group: &ShareGroup, topics: &dyn TopicImage) -> DescribedGroup {
    let member = |member: &super::Member| {
        let assigned = member.assigned.iter().filter_map(|(id, partitions)| {
            let topic = TopicPartitions::default().with_topic_id(*id).with_topic_name(text(&topics.name(*id)?).into());
            Some(topic.with_partitions(partitions.iter().copied().collect()))
        });
        Member::default()
            .with_member_id(text(&member.id))
            .with_rack_id(maybe_text(member.rack_id.as_deref()))
            .with_member_epoch(member.epoch)
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_subscribed_topic_names(member.topics.iter().map(|topic| text(topic).into()).collect())
            .with_assignment(Assignment::default().with_topic_partitions(assigned.collect()))
    };
    DescribedGroup::default()
        .with_group_state(text(group.state()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text(ASSIGNOR))
        .with_members(group.members.values().map(member).collect())
}
