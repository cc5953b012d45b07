//! The start offsets of a share group's partitions, for administrators.

use std::collections::HashSet;

use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::{ShareGroup, ShareOffset};
use crate::group::coordinator::{Coordinator, check_group_id};
use crate::group::error::Refusal;
use crate::group::state::{GroupState, Kind};

impl Coordinator {
    /// Every partition that the group has state of, or that its members read; none for a group that is not there.
    pub fn share_offsets(&self, group: &str) -> Result<Vec<ShareOffset>, ErrorCode> {
        let mut offsets = self.share_state()?.offsets(group)?;
        let known: HashSet<(Uuid, i32)> = offsets.iter().map(|offset| (offset.topic, offset.partition)).collect();
        for topic in self.share_subscribed(group) {
            let partitions = 0..self.topics().partitions(topic).unwrap_or(0);
            let new = partitions.filter(|partition| !known.contains(&(topic, *partition)));
            offsets.extend(new.map(|partition| ShareOffset { topic, partition, start: None, lag: None }));
        }
        Ok(offsets)
    }

    /// AlterShareGroupOffsets: one result per partition, in order. The group comes into being if it has to.
    pub async fn alter_share_offsets(
        &self,
        group: &str,
        starts: &[(Uuid, i32, i64)],
    ) -> Result<Vec<Result<(), ErrorCode>>, Refusal> {
        check_group_id(group)?;
        let partitions = self.share_state()?;
        let (altered, durable) = self.run(group, |state, ctx| {
            let mut new = None;
            let share = match &mut state.kind {
                Kind::Share(share) => share,
                Kind::Classic(classic) if !classic.is_known() && state.offsets.is_empty() => {
                    new.insert(ShareGroup::empty(classic.generation))
                }
                Kind::Classic(_) | Kind::Consumer(_) | Kind::Streams(_) => {
                    let message = format!("Group {} is not a share group.", ctx.group);
                    return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
                }
            };
            if !share.members.is_empty() {
                return Err(not_empty());
            }
            share.bump_epoch(ctx);
            if let Some(share) = new {
                state.kind = Kind::Share(share);
            }
            Ok(())
        });
        altered?;
        durable.wait().await?;
        Ok(partitions.reset(group, starts).await)
    }

    /// DeleteShareGroupOffsets. Topics that the group has no state of count as deleted.
    pub async fn delete_share_offsets(&self, group: &str, topics: &[Uuid]) -> Result<(), Refusal> {
        check_group_id(group)?;
        if !self.read_share(group, |share| share.members.is_empty())? {
            return Err(not_empty());
        }
        Ok(self.share_state()?.delete_topics(group, topics).await?)
    }

    /// What a group leaves behind in the share partitions goes before the group: until it is gone nobody can have a new
    /// group of this name and find the old one's records acknowledged.
    pub(in crate::group) async fn delete_share_state(&self, group: &str) -> Result<(), ErrorCode> {
        let deletable = self.find(group).is_some_and(|found| {
            found.read(|state: &GroupState| matches!(state.kind, Kind::Share(_)) && state.is_empty())
        });
        match self.share_state.get() {
            Some(state) if deletable => state.delete(group).await,
            _ => Ok(()),
        }
    }
}

fn not_empty() -> Refusal {
    Refusal::new(ErrorCode::NonEmptyGroup, "The group is not empty.")
}
