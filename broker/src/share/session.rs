//! Share sessions (KIP-932): which partitions a member fetches, and the order of its requests.

use std::sync::{Arc, Weak};

use krocket_protocol::ErrorCode;
use krocket_stack::Connection;
use parking_lot::Mutex;
use std::collections::HashMap;
use uuid::Uuid;

/// Opens a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// Closes it.
pub(crate) const FINAL_EPOCH: i32 = -1;

/// A partition as clients name it.
pub(crate) type Asked = (Uuid, i32);
/// Group and member.
type Owner = (String, String);

/// Every member's session.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<Owner, Session>>);

#[derive(Debug)]
struct Session {
    /// What the next request has to say.
    epoch: i32,
    partitions: Vec<Asked>,
    connection: Weak<Connection>,
}

/// What a request is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Fetch these, beginning with another one each time.
    Fetch(Vec<Asked>),
    /// The session is over.
    Close,
}

impl Sessions {
    /// Takes a request's epoch and changes. `opens` says how many sessions there may be;
    /// it is nothing for ShareAcknowledge, which needs one that is there.
    pub(crate) fn turn(
        &self,
        (group, member): (&str, &str),
        epoch: i32,
        opens: Option<usize>,
        (added, forgotten): (Vec<Asked>, &[Asked]),
        connection: &Arc<Connection>,
    ) -> Result<Turn, ErrorCode> {
        let owner = (group.to_owned(), member.to_owned());
        let mut sessions = self.0.lock();
        match epoch {
            FINAL_EPOCH => {
                sessions.remove(&owner).ok_or(ErrorCode::ShareSessionNotFound)?;
                Ok(Turn::Close)
            }
            INITIAL_EPOCH => {
                let most = opens.ok_or(ErrorCode::InvalidShareSessionEpoch)?;
                if sessions.len() >= most && !sessions.contains_key(&owner) {
                    return Err(ErrorCode::ShareSessionLimitReached);
                }
                let mut session = Session { epoch: 1, partitions: Vec::new(), connection: Arc::downgrade(connection) };
                session.update(added, forgotten);
                let asked = session.partitions.clone();
                sessions.insert(owner, session);
                Ok(Turn::Fetch(asked))
            }
            epoch => {
                let session = sessions.get_mut(&owner).ok_or(ErrorCode::ShareSessionNotFound)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidShareSessionEpoch);
                }
                session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
                session.connection = Arc::downgrade(connection);
                session.update(added, forgotten);
                let mut asked = session.partitions.clone();
                if !asked.is_empty() {
                    let by = epoch as usize % asked.len();
                    asked.rotate_left(by);
                }
                Ok(Turn::Fetch(asked))
            }
        }
    }

    /// Takes out the sessions whose connections are gone.
    pub(super) fn take_lost(&self) -> Vec<Owner> {
        let mut sessions = self.0.lock();
        let is_lost = |session: &Session| session.connection.strong_count() == 0;
        let lost: Vec<Owner> = sessions.iter().filter(|(_, s)| is_lost(s)).map(|(owner, _)| owner.clone()).collect();
        lost.iter().for_each(|owner| _ = sessions.remove(owner));
        lost
    }
}

impl Session {
    fn update(&mut self, added: Vec<Asked>, forgotten: &[Asked]) {
        self.partitions.retain(|partition| !forgotten.contains(partition));
        for partition in added {
            if !self.partitions.contains(&partition) {
                self.partitions.push(partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const OWNER: (&str, &str) = ("g", "m");

    fn of(partitions: &[i32]) -> Vec<Asked> {
        partitions.iter().map(|index| (TOPIC, *index)).collect()
    }

    #[test]
    fn a_session_keeps_count_and_remembers_partitions() {
        let (sessions, connection) = (Sessions::default(), Arc::new(Connection::internal("test")));
        let turn = |epoch, added: &[i32], forgotten: &[i32]| {
            sessions.turn(OWNER, epoch, Some(1), (of(added), &of(forgotten)), &connection)
        };
        assert_eq!(turn(1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(turn(-1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(turn(0, &[0, 1, 2], &[]), Ok(Turn::Fetch(of(&[0, 1, 2]))));
        assert_eq!(turn(2, &[], &[]), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(turn(1, &[3], &[0]), Ok(Turn::Fetch(of(&[2, 3, 1]))));
        let acknowledge = sessions.turn(OWNER, 0, None, (Vec::new(), &[]), &connection);
        assert_eq!(acknowledge, Err(ErrorCode::InvalidShareSessionEpoch));
        let other = sessions.turn(("g", "other"), 0, Some(1), (Vec::new(), &[]), &connection);
        assert_eq!(other, Err(ErrorCode::ShareSessionLimitReached));
        assert_eq!(turn(-1, &[], &[]), Ok(Turn::Close));
        assert_eq!(turn(2, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn a_session_ends_with_its_connection() {
        let (sessions, connection) = (Sessions::default(), Arc::new(Connection::internal("test")));
        sessions.turn(OWNER, 0, Some(1), (of(&[0]), &[]), &connection).expect("opens");
        assert!(sessions.take_lost().is_empty());
        drop(connection);
        assert_eq!(sessions.take_lost(), [("g".to_owned(), "m".to_owned())]);
        assert!(sessions.take_lost().is_empty());
    }
}
