//! Groups as administrators see them.

use std::collections::BTreeMap;

use kafka_protocol::messages::consumer_group_describe_response::{self as consumer_describe, TopicPartitions};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::classic::{self, ClassicGroup, State};
use super::consumer::ConsumerGroup;
use super::consumer::assign::Assignor;
use super::consumer::member::{Member, without_epochs};
use super::context::{maybe_text, text};
use super::coordinator::Coordinator;
use super::share;
use super::state::Kind;
use super::streams;
use super::topics::TopicImage;

impl Coordinator {
    /// ListGroups: those in one of the states and of one of the types; an empty list takes all.
    pub fn list_groups(&self, states: &[&str], types: &[&str]) -> Vec<ListedGroup> {
        let wanted = |filter: &[&str], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        };
        let listed = |id: String| {
            let (state, kind, protocol) = self.find(&id)?.read(|group| {
                group.exists().then(|| match &group.kind {
                    Kind::Classic(g) => (g.state.name(), "Classic", g.protocol_type.clone().unwrap_or_default()),
                    Kind::Consumer(g) => (g.state(), "Consumer", classic::CONSUMER.to_owned()),
                    Kind::Share(g) => (g.state(), "Share", share::PROTOCOL_TYPE.to_owned()),
                    Kind::Streams(g) => (g.state(), "Streams", streams::PROTOCOL_TYPE.to_owned()),
                })
            })?;
            let group = ListedGroup::default()
                .with_group_id(text(&id).into())
                .with_protocol_type(text(&protocol))
                .with_group_state(text(state))
                .with_group_type(text(kind));
            (wanted(states, state) && wanted(types, kind)).then_some(group)
        };
        self.ids().into_iter().filter_map(listed).collect()
    }

    /// DescribeGroups, one group. From version 6 on a group that isn't there is an error; before that it is Dead.
    pub fn describe_group(&self, id: &str, version: i16) -> DescribedGroup {
        let found = self.find(id).and_then(|group| {
            group.read(|group| match &group.kind {
                Kind::Classic(classic) if group.exists() => Some(describe_classic(classic)),
                _ => None,
            })
        });
        let described = found.unwrap_or_else(|| {
            let dead = DescribedGroup::default().with_group_state(text("Dead"));
            if version < 6 {
                return dead;
            }
            dead.with_error_code(ErrorCode::GroupIdNotFound.code()).with_error_message(Some(not_found(
                id,
                "a classic",
                self.find(id).is_some_and(|group| group.read(|group| group.exists())),
            )))
        });
        described.with_group_id(text(id).into())
    }

    /// ConsumerGroupDescribe, one group.
    pub fn describe_consumer_group(&self, id: &str) -> consumer_describe::DescribedGroup {
        let found = self.find(id);
        let described = found.as_ref().and_then(|group| {
            group.read(|group| match &group.kind {
                Kind::Consumer(consumer) => {
                    Some(describe_consumer(consumer, self.topics(), self.settings(id).default_assignor()))
                }
                Kind::Classic(_) | Kind::Share(_) | Kind::Streams(_) => None,
            })
        });
        let described = described.unwrap_or_else(|| {
            let exists = found.is_some_and(|group| group.read(|group| group.exists()));
            consumer_describe::DescribedGroup::default()
                .with_error_code(ErrorCode::GroupIdNotFound.code())
                .with_error_message(Some(not_found(id, "a consumer", exists)))
        });
        described.with_group_id(text(id).into()).with_authorized_operations(i32::MIN)
    }
}

fn not_found(id: &str, kind: &str, exists: bool) -> krocket_protocol::StrBytes {
    match exists {
        true => text(&format!("Group {id} is not {kind} group.")),
        false => text(&format!("Group {id} not found.")),
    }
}

fn describe_classic(group: &ClassicGroup) -> DescribedGroup {
    let protocol = group.protocol_name.as_deref().filter(|_| group.state == State::Stable);
    let member = |member: &classic::Member| {
        DescribedGroupMember::default()
            .with_member_id(text(&member.id))
            .with_group_instance_id(maybe_text(member.instance_id.as_deref()))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_assignment(member.assignment.clone())
            .with_member_metadata(protocol.and_then(|protocol| member.metadata(protocol)).cloned().unwrap_or_default())
    };
    DescribedGroup::default()
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(protocol.unwrap_or_default()))
        .with_members(group.members.values().map(member).collect())
        .with_authorized_operations(i32::MIN)
}

fn describe_consumer(
    group: &ConsumerGroup,
    topics: &dyn TopicImage,
    default_assignor: Assignor,
) -> consumer_describe::DescribedGroup {
    let assignment = |partitions: BTreeMap<Uuid, Vec<i32>>| {
        let topic = |(id, partitions): (Uuid, Vec<i32>)| {
            let name = topics.name(id)?;
            let topic = TopicPartitions::default().with_topic_id(id).with_topic_name(text(&name).into());
            Some(topic.with_partitions(partitions))
        };
        consumer_describe::Assignment::default()
            .with_topic_partitions(partitions.into_iter().filter_map(topic).collect())
    };
    let member = |member: &Member| {
        // Until it has given them up a member answers for the partitions it is to lose.
        let mut held: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for (topic, partitions) in without_epochs(&member.assigned).into_iter().chain(without_epochs(&member.revoking))
        {
            held.entry(topic).or_default().extend(partitions);
        }
        let target = member.target.iter().map(|(id, set)| (*id, set.iter().copied().collect())).collect();
        consumer_describe::Member::default()
            .with_member_id(text(&member.id))
            .with_instance_id(maybe_text(member.instance_id.as_deref()))
            .with_rack_id(maybe_text(member.rack_id.as_deref()))
            .with_member_epoch(member.epoch)
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_subscribed_topic_names(member.topics.iter().map(|topic| text(topic).into()).collect())
            .with_subscribed_topic_regex(maybe_text(member.regex.as_deref()))
            .with_assignment(assignment(held))
            .with_target_assignment(assignment(target))
            .with_member_type(if member.classic.is_some() { 0 } else { 1 })
    };
    consumer_describe::DescribedGroup::default()
        .with_group_state(text(group.state()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text(group.assignor(default_assignor).name()))
        .with_members(group.members.values().map(member).collect())
}
