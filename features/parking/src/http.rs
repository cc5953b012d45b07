//! What the HTTP endpoints over parked records share.

use krocket_features::http::{Page, Problem, message_id, no_topic, place, unplace};
use krocket_stack::ledger::PartitionId;

use crate::{Listed, Locator, Parking};

impl Parking {
    /// Where the message of an id in a request is.
    pub fn locate_text(&self, id: &str) -> Result<Locator, Problem> {
        let parsed = message_id(id)?;
        self.locate(&parsed).ok_or_else(|| Problem::not_found(format!("{id}: no such topic or partition")))
    }

    /// The partitions that a list is of: a topic's, or all.
    pub fn partitions_of(&self, topic: Option<&str>) -> Result<Vec<PartitionId>, Problem> {
        let mut partitions: Vec<_> = match topic {
            Some(name) => self.ledger().topic(name).ok_or_else(|| no_topic(name))?.partitions,
            None => self.ledger().topics().into_iter().flat_map(|topic| topic.partitions).collect(),
        };
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// A page of what waits in these partitions (sorted), due from `from` on and before `to` (epoch ms), partition by
    /// partition, the soonest first; of each what `pick` makes of it.
    pub fn page<T>(
        &self,
        partitions: &[PartitionId],
        (from, to): (i64, Option<i64>),
        limit: usize,
        next: Option<&str>,
        mut pick: impl FnMut(Listed) -> Option<T>,
    ) -> Result<Page<T>, Problem> {
        let begin = unplace::<3>(next)?;
        if begin.is_some_and(|[_, due, offset]| due < 0 || !(0..i64::MAX).contains(&offset)) {
            return Err(Problem::no_token());
        }
        let (mut items, mut last) = (Vec::new(), None);
        for partition in partitions {
            let after = match begin {
                Some([of, ..]) if i64::from(*partition) < of => continue,
                Some([of, due, offset]) if i64::from(*partition) == of => Some((due, offset)),
                _ => None,
            };
            self.pending(*partition, from, after, &mut |listed| {
                if to.is_some_and(|to| listed.due >= to) || items.len() >= limit {
                    return false;
                }
                let at = [i64::from(*partition), listed.due, listed.at.1];
                if let Some(item) = pick(listed) {
                    items.push(item);
                    last = Some(at);
                }
                true
            })?;
            if items.len() >= limit {
                break;
            }
        }
        let next = last.filter(|_| items.len() >= limit).map(place);
        Ok(Page { items, next })
    }
}
