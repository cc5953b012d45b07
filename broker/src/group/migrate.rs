//! From one protocol to the other and back (KIP-848's migration), as `GroupMetadataManager` does it.

use std::collections::HashSet;
use std::sync::Arc;

use krocket_protocol::ErrorCode;

use super::classic::{self, CONSUMER, ClassicGroup};
use super::consumer::ConsumerGroup;
use super::consumer::member::{Classic, Member, Owned, without_epochs};
use super::context::Ctx;
use super::embedded::{self, Malformed};
use super::error::Refusal;
use super::settings::GroupSettings;

/// The consumer group that a classic group becomes when a member of the new protocol joins: same members, same
/// partitions, epochs that continue the generations. The classic group is left as it is.
pub(super) fn to_consumer(ctx: &Ctx<'_>, classic: &ClassicGroup) -> Result<ConsumerGroup, Refusal> {
    let refuse = |why: &str| {
        tracing::info!(group = %ctx.group, why, "the classic group cannot become a consumer group");
        let message = format!("Cannot upgrade classic group {} to consumer group because {why}.", ctx.group);
        Refusal::new(ErrorCode::GroupIdNotFound, message)
    };
    if !ctx.config.migration.upgrades() {
        return Err(refuse("online upgrade is disabled"));
    }
    if !classic.uses_consumer_protocol() {
        return Err(refuse("the group does not use the consumer embedded protocol"));
    }
    if classic.members.len() > ctx.config.consumer_max_size {
        return Err(refuse("the group size exceeds the consumer group maximum size"));
    }
    let mut group = ConsumerGroup::empty(classic.generation);
    let mut taken = HashSet::new();
    for member in classic.members.values() {
        let (owned, custom) = owned(ctx, &member.assignment)
            .map_err(|Malformed| refuse("the embedded consumer protocol is malformed"))?;
        if custom {
            return Err(refuse("an unsupported custom assignor is in use"));
        }
        let metadata = classic.protocol_name.as_deref().and_then(|protocol| member.metadata(protocol));
        let metadata = metadata.or_else(|| member.protocols.first().map(|(_, metadata)| metadata));
        let subscription = embedded::subscription(metadata.map(AsRef::as_ref).unwrap_or_default())
            .map_err(|Malformed| refuse("the embedded consumer protocol is malformed"))?;
        let mut assigned = Owned::new();
        for (topic, partition) in owned {
            // A client's assignor may have given a partition twice; here nobody gets what another has.
            if taken.insert((topic, partition)) {
                assigned.entry(topic).or_default().insert(partition, classic.generation);
            }
        }
        group.insert(Member {
            instance_id: member.instance_id.clone(),
            rack_id: subscription.rack.filter(|rack| !rack.is_empty()),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            topics: subscription.topics.into_iter().collect(),
            epoch: classic.generation,
            previous_epoch: classic.generation,
            target: without_epochs(&assigned),
            assigned,
            classic: Some(Classic {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
            ..Member::new(member.id.clone())
        });
    }
    Ok(group)
}

fn owned(ctx: &Ctx<'_>, assignment: &[u8]) -> Result<(Vec<(uuid::Uuid, i32)>, bool), Malformed> {
    // Nothing yet: the member has not synced.
    if assignment.is_empty() {
        return Ok((Vec::new(), false));
    }
    let (partitions, custom) = embedded::assignment(assignment)?;
    let ids = partitions.into_iter().filter_map(|(topic, partitions)| Some((ctx.topics.id(&topic)?, partitions)));
    Ok((ids.flat_map(|(id, partitions)| partitions.into_iter().map(move |p| (id, p))).collect(), custom))
}

/// True when nobody of the new protocol is left once these are gone, and the group may become classic again.
pub(super) fn can_downgrade(group: &ConsumerGroup, leaving: &[Arc<str>], config: &GroupSettings) -> bool {
    let mut staying = group.members.values().filter(|member| !leaving.contains(&member.id)).peekable();
    config.migration.downgrades()
        && staying.peek().is_some()
        && staying.all(|member| member.classic.is_some())
        && group.members.len() - leaving.len() <= config.max_size
}

/// The classic group that a consumer group of classic members becomes.
pub(super) fn to_classic(ctx: &Ctx<'_>, group: &ConsumerGroup) -> ClassicGroup {
    let member = |member: &Member| {
        let classic = member.classic.as_ref();
        classic::Member {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: classic.map_or(ctx.config.consumer_session_timeout_ms, |c| c.session_timeout_ms),
            protocols: classic.map(|c| c.protocols.clone()).unwrap_or_default(),
            assignment: target_as_assignment(ctx, member),
            joining: None,
            syncing: None,
            is_new: false,
        }
    };
    let members: Vec<_> = group.members.values().map(member).collect();
    let leader = members.first().map(|member| member.id.clone());
    let mut classic =
        ClassicGroup::restored(group.epoch, Some(CONSUMER.to_owned()), None, leader, members, ctx.now_ms, true);
    classic.settle_protocol();
    classic
}

fn target_as_assignment(ctx: &Ctx<'_>, member: &Member) -> bytes::Bytes {
    let version = member.classic_protocol().and_then(|(_, metadata)| embedded::version(metadata).ok()).unwrap_or(0);
    let named = member
        .target
        .iter()
        .filter_map(|(topic, partitions)| Some((ctx.topics.name(*topic)?, partitions.iter().copied().collect())));
    embedded::encode_assignment(version, &named.collect())
}
