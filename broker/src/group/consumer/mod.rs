//! The KIP-848 protocol: the broker assigns, members follow step by step. Kafka's `ConsumerGroup`.

pub(super) mod assign;
mod classic_member;
mod heartbeat;
pub(super) mod member;
mod reconcile;
mod regex;
#[cfg(test)]
mod simulation;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::context::Ctx;
use super::error::Refusal;
use super::persist;
use super::topics::metadata_hash;
use assign::Assignor;
use member::{LEFT_STATIC, Member, MemberState};

#[derive(Debug, Default)]
pub(super) struct ConsumerGroup {
    /// Moves with every change of members, subscriptions or topics; never back.
    pub(super) epoch: i32,
    /// Epoch of the target assignment.
    pub(super) assignment_epoch: i32,
    /// Of the subscribed topics as the last epoch saw them.
    pub(super) metadata_hash: u64,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Who holds a partition: assigned, or not yet given up. Never two.
    holders: HashMap<(Uuid, i32), Arc<str>>,
    /// Topics that each expression in use matches.
    resolved: BTreeMap<String, BTreeSet<String>>,
    /// Version of the topic table that `resolved` and `metadata_hash` were compared with.
    topics_version: Option<u64>,
}

impl ConsumerGroup {
    pub(super) fn empty(epoch: i32) -> Self {
        ConsumerGroup { epoch, assignment_epoch: epoch, ..ConsumerGroup::default() }
    }

    pub(super) fn restored(epoch: i32, assignment_epoch: i32, metadata_hash: u64, members: Vec<Member>) -> Self {
        let mut group = ConsumerGroup { epoch, assignment_epoch, metadata_hash, ..ConsumerGroup::default() };
        members.into_iter().for_each(|member| group.insert(member));
        group
    }

    /// Kafka's `ConsumerGroupState`.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn member(&self, id: &str) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| {
            Refusal::new(ErrorCode::UnknownMemberId, format!("Member {id} is not a member of the group."))
        })
    }

    pub(super) fn static_member(&self, instance: &str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance)?)
    }

    /// The member that a classic request or a leave names, by instance id if it has one.
    fn validate_member(&self, id: &str, instance: Option<&str>) -> Result<&Member, Refusal> {
        match instance {
            None => self.member(id),
            Some(instance) => {
                let member = self.static_member(instance).ok_or_else(|| unknown_instance(instance))?;
                not_fenced(member, id, instance)?;
                Ok(member)
            }
        }
    }

    fn held_by_other(&self, member: &str, topic: Uuid, partition: i32) -> bool {
        self.holders.get(&(topic, partition)).is_some_and(|holder| &**holder != member)
    }

    /// Adds the member or puts it in the place of its last state.
    pub(super) fn insert(&mut self, member: Member) {
        self.remove(&member.id.clone());
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        for partition in member.held() {
            let before = self.holders.insert(partition, member.id.clone());
            debug_assert!(before.is_none(), "{partition:?} is held by {before:?} and {}", member.id);
        }
        self.members.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance).is_some_and(|owner| **owner == *id)
        {
            self.static_members.remove(instance);
        }
        for partition in member.held() {
            if self.holders.get(&partition).is_some_and(|holder| **holder == *id) {
                self.holders.remove(&partition);
            }
        }
        Some(member)
    }

    /// The assignor that most members ask for, else the broker's default.
    pub(super) fn assignor(&self, default: Assignor) -> Assignor {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let favourite = votes.into_iter().max_by_key(|(_, count)| *count);
        favourite.and_then(|(name, _)| Assignor::by_name(name)).unwrap_or(default)
    }

    /// Names of the topics a member reads, by name and by expression; they need not exist.
    fn topic_names<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a str> {
        let resolved = member.regex().and_then(|regex| self.resolved.get(regex));
        member.topics.iter().chain(resolved.into_iter().flatten()).map(String::as_str)
    }

    /// Ids of the topics a member reads, those that exist.
    fn topic_ids(&self, ctx: &Ctx<'_>, member: &Member) -> BTreeSet<Uuid> {
        self.topic_names(member).filter_map(|name| ctx.topics.id(name)).collect()
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.topic_names(member).any(|name| name == topic))
    }

    /// Resolves the expressions in use, and only them. Always those that are new; all of them when topics changed.
    fn resolve(&mut self, ctx: &Ctx<'_>, all: bool) {
        let in_use: BTreeSet<String> = self.members.values().filter_map(Member::regex).map(str::to_owned).collect();
        if in_use.is_empty() {
            return self.resolved.clear();
        }
        self.resolved.retain(|regex, _| in_use.contains(regex));
        if all || in_use.len() != self.resolved.len() {
            let names = ctx.topics.names();
            for regex in
                in_use.into_iter().filter(|regex| all || !self.resolved.contains_key(regex)).collect::<Vec<_>>()
            {
                let topics = regex::resolve(&regex, &names);
                self.resolved.insert(regex, topics);
            }
        }
    }

    /// Looks at the topics again if they, or `changed`, give reason to. True when what the group reads has changed.
    fn refresh_metadata(&mut self, ctx: &Ctx<'_>, changed: bool) -> bool {
        let version = ctx.topics.version();
        let topics_changed = self.topics_version != Some(version);
        if !topics_changed && !changed {
            return false;
        }
        self.topics_version = Some(version);
        self.resolve(ctx, topics_changed);
        let names = self.members.values().flat_map(|member| self.topic_names(member)).collect();
        let hash = metadata_hash(ctx.topics, names);
        std::mem::replace(&mut self.metadata_hash, hash) != hash
    }

    /// Whether this member may commit offsets. Older epochs may commit what the member had by then and still has
    /// (KIP-1251); the returned function tells per partition.
    pub(super) fn validate_commit(
        &self,
        id: &str,
        epoch: i32,
        version: i16,
        transactional: bool,
    ) -> Result<impl Fn(Uuid, i32) -> Result<(), ErrorCode> + use<'_>, ErrorCode> {
        let member = match self.members.get(id) {
            None if epoch < 0 && (self.members.is_empty() || transactional && id.is_empty()) => None,
            member => Some(member.ok_or(ErrorCode::UnknownMemberId)?),
        };
        if let Some(member) = member {
            if member.classic.is_none() && version < 9 && !transactional {
                return Err(ErrorCode::UnsupportedVersion);
            }
            if epoch > member.epoch {
                return Err(stale_code(member));
            }
        }
        Ok(move |topic, partition| match member {
            Some(member) if epoch != member.epoch => match member.assignment_epoch(topic, partition) {
                Some(assigned) if epoch >= assigned => Ok(()),
                _ => Err(stale_code(member)),
            },
            _ => Ok(()),
        })
    }

    /// Whether this member may read offsets; None for those who are not members.
    pub(super) fn validate_fetch(&self, id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match id {
            None if epoch < 0 => Ok(()),
            id => {
                let member = self.members.get(id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
                if epoch == member.epoch { Ok(()) } else { Err(stale_code(member)) }
            }
        }
    }

    fn persist_member(&self, ctx: &mut Ctx<'_>, id: &str) {
        if let Some(member) = self.members.get(id) {
            let write = persist::put_member(&ctx.group, member);
            ctx.writes.push(write);
        }
    }

    fn persist_group(&self, ctx: &mut Ctx<'_>) {
        let write = persist::put_consumer(&ctx.group, self);
        ctx.writes.push(write);
    }

    /// Writes the whole group.
    pub(super) fn persist_all(&self, ctx: &mut Ctx<'_>) {
        self.persist_group(ctx);
        for id in self.members.keys() {
            self.persist_member(ctx, id);
        }
    }

    /// Removes the whole group from the log.
    pub(super) fn unpersist(&self, ctx: &mut Ctx<'_>) {
        ctx.writes.push(persist::delete_consumer(&ctx.group));
        for id in self.members.keys() {
            let write = persist::delete_member(&ctx.group, id);
            ctx.writes.push(write);
        }
    }
}

/// A classic member knows its epoch as a generation.
fn stale_code(member: &Member) -> ErrorCode {
    if member.classic.is_some() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

fn unknown_instance(instance: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))
}

fn not_fenced(member: &Member, id: &str, instance: &str) -> Result<(), Refusal> {
    if *member.id == *id {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FencedInstanceId,
        format!("Static member {id} with instance id {instance} was fenced by member {}.", member.id),
    ))
}
