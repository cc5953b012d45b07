//! Ends what ends by itself where nobody fetches: locks of consumers that are gone, sessions without a connection.

use std::sync::Weak;
use std::time::Duration;

use super::Shares;

/// How often to look. Members that wait for records wake by themselves, to the millisecond.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs until the share groups are dropped.
pub(super) async fn watch(shares: Weak<Shares>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        match shares.upgrade() {
            Some(shares) => shares.look_after().await,
            None => return,
        }
    }
}

impl Shares {
    async fn look_after(&self) {
        for (group, member) in self.sessions.take_lost() {
            self.release(&group, &member, true).await;
        }
        let now_ms = self.log.clock().steady_ms();
        let groups: Vec<_> = self.groups.iter().map(|entry| entry.value().clone()).collect();
        for group in groups {
            let due: Vec<_> = group.all().into_iter().filter(|partition| partition.is_due(now_ms)).collect();
            if due.is_empty() {
                continue;
            }
            let policy = self.policy(&group.id);
            for partition in due {
                if let Err(error) = partition.tick(&self.log, &policy).await {
                    tracing::warn!(%error, group = &*group.id, "the state of a share group cannot be written");
                }
                self.after_change(&group.id, &partition, &policy).await;
            }
        }
    }
}
