//! Who may commit, read and delete which offsets, and when they go by themselves (Kafka's `OffsetMetadataManager`).

use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::classic::State;
use super::context::Ctx;
use super::metrics::METRICS;
use super::offsets::{Offset, OffsetChange};
use super::state::{GroupState, Kind};

/// An OffsetCommit for topics that exist.
pub struct Commit {
    /// The member, or empty for none.
    pub member_id: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Its generation or epoch; negative for none.
    pub epoch: i32,
    /// Version of the request.
    pub version: i16,
    /// Retention the client asks for, ms; negative for none.
    pub retention_ms: i64,
    /// In a transaction: a producer speaks, and may know no member.
    pub transactional: bool,
    /// What to commit.
    pub partitions: Vec<CommitPartition>,
}

/// One partition of a [`Commit`].
pub struct CommitPartition {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The consumer's own note.
    pub metadata: String,
}

impl GroupState {
    /// One result per partition, in order; or one error for all of them.
    pub(super) fn commit(
        &mut self,
        ctx: &mut Ctx<'_>,
        commit: Commit,
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        if !self.exists() && commit.epoch >= 0 {
            let code = if commit.version >= 9 { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
            return Err(code);
        }
        match &mut self.kind {
            Kind::Classic(group) => {
                let Commit { member_id, epoch, transactional, .. } = &commit;
                group.validate_commit(ctx, member_id, commit.instance_id.as_deref(), *epoch, *transactional)?;
            }
            Kind::Consumer(group) => {
                let allowed =
                    group.validate_commit(&commit.member_id, commit.epoch, commit.version, commit.transactional)?;
                commit.partitions.iter().try_for_each(|p| allowed(p.topic_id, p.partition))?;
            }
            Kind::Streams(group) => {
                let allowed =
                    group.validate_commit(&commit.member_id, commit.epoch, commit.version, commit.transactional)?;
                commit.partitions.iter().try_for_each(|p| allowed(&p.topic, p.partition))?;
            }
            // Share groups have no committed offsets.
            Kind::Share(_) => return Err(ErrorCode::GroupIdNotFound),
        }
        let expires_ms = (commit.retention_ms >= 0).then(|| ctx.now_ms.saturating_add(commit.retention_ms));
        let mut results = Vec::with_capacity(commit.partitions.len());
        for p in commit.partitions {
            if p.metadata.len() > ctx.config.offset_metadata_max_bytes {
                results.push(Err(ErrorCode::OffsetMetadataTooLarge));
                continue;
            }
            let offset = Offset {
                offset: p.offset,
                leader_epoch: p.leader_epoch,
                metadata: p.metadata,
                committed_ms: ctx.now_ms,
                expires_ms,
                topic_id: p.topic_id,
            };
            ctx.offsets.push(OffsetChange { topic: p.topic, partition: p.partition, offset: Some(offset) });
            results.push(Ok(()));
        }
        METRICS.offset_commits.inc_by(ctx.offsets.len() as u64);
        Ok(results)
    }

    /// Whether this member may read the group's offsets. Those of a group that is not there are simply not there.
    pub(super) fn validate_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match &self.kind {
            Kind::Classic(_) => Ok(()),
            Kind::Consumer(group) => group.validate_fetch(member, epoch),
            Kind::Streams(group) => group.validate_fetch(member, epoch),
            Kind::Share(_) => Err(ErrorCode::GroupIdNotFound),
        }
    }

    /// One result per partition, in order; or one error for all of them.
    pub(super) fn delete_offsets(
        &mut self,
        ctx: &mut Ctx<'_>,
        partitions: &[(String, i32)],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        if !self.exists() || matches!(self.kind, Kind::Share(_)) {
            return Err(ErrorCode::GroupIdNotFound);
        }
        // What other protocol types read, nobody here can tell.
        if matches!(&self.kind, Kind::Classic(group) if group.state != State::Empty && !group.uses_consumer_protocol())
        {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let check = |(topic, _): &(String, i32)| match self.is_subscribed(topic) {
            true => Err(ErrorCode::GroupSubscribedToTopic),
            false => Ok(()),
        };
        let results: Vec<_> = partitions.iter().map(check).collect();
        ctx.offsets.extend(self.offsets.removals(|topic, partition, _| {
            partitions
                .iter()
                .zip(&results)
                .any(|((name, index), result)| result.is_ok() && name == topic && *index == partition)
        }));
        Ok(results)
    }

    /// Removes what offsets.retention.minutes has passed over, and the group itself when nothing is left of it.
    pub(super) fn expire(&mut self, ctx: &mut Ctx<'_>) {
        let retention_ms = ctx.config.offsets_retention_ms;
        let committed = |offset: &Offset| offset.committed_ms;
        let subscribed = |topic: &str| self.is_subscribed(topic);
        let expired = match &self.kind {
            // It has no offsets, and its share partitions outlive its members.
            Kind::Share(_) => return,
            // Nobody joined it: a consumer that assigns itself.
            Kind::Classic(group) if group.protocol_type.is_none() => {
                self.offsets.expired(ctx.now_ms, retention_ms, committed, |_| false)
            }
            // Retention starts when the last member leaves.
            Kind::Classic(group) if group.state == State::Empty => {
                let since = group.state_since_ms;
                self.offsets.expired(ctx.now_ms, retention_ms, |offset| offset.committed_ms.max(since), |_| false)
            }
            Kind::Classic(group)
                if group.state == State::Stable && group.uses_consumer_protocol() && group.knows_subscriptions() =>
            {
                self.offsets.expired(ctx.now_ms, retention_ms, committed, subscribed)
            }
            Kind::Classic(_) => Vec::new(),
            Kind::Consumer(_) | Kind::Streams(_) => {
                self.offsets.expired(ctx.now_ms, retention_ms, committed, subscribed)
            }
        };
        let left = self.offsets.removals(|_, _, _| true).len() - expired.len();
        if !expired.is_empty() {
            tracing::info!(group = %ctx.group, count = expired.len(), "offsets expired");
            METRICS.expired_offsets.inc_by(expired.len() as u64);
        }
        ctx.offsets.extend(expired);
        if left == 0 && self.is_empty() && self.exists() && !self.has_pending_joins() {
            tracing::info!(group = %ctx.group, "removed: it has neither members nor offsets");
            self.forget(ctx);
        }
    }

    fn has_pending_joins(&self) -> bool {
        matches!(&self.kind, Kind::Classic(group) if group.has_pending_joins())
    }

    /// Removes the offsets of a topic that is gone.
    pub(super) fn forget_topic(&self, ctx: &mut Ctx<'_>, topic: &str) {
        ctx.offsets.extend(self.offsets.removals(|name, _, _| name == topic));
    }
}
