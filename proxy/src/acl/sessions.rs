//! Whose fetch sessions are, and by which ACLs they were begun.
//!
//! A session's partitions are the backend's to remember, so only what a request names can be asked about. A session
//! therefore counts for the user that began it and until the ACLs change; then the client begins anew and names
//! everything.

use std::collections::HashMap;
use std::net::IpAddr;

use krocket_protocol::StrBytes;
use krocket_stack::Principal;
use parking_lot::Mutex;

use super::Ask;

/// Most sessions; beyond that all are forgotten, which costs each client one full request.
const MAX_SESSIONS: usize = 20_000;

/// A session's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Session {
    /// Of Fetch (KIP-227).
    Fetch(i32),
    /// Of ShareFetch: group and member.
    Share(StrBytes, StrBytes),
}

#[derive(Debug, PartialEq, Eq)]
struct Owner {
    principal: Principal,
    host: IpAddr,
    version: u64,
}

impl Owner {
    fn of(ask: &Ask<'_>) -> Self {
        Owner { principal: ask.principal().clone(), host: ask.host(), version: ask.version() }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Session, Owner>>);

impl Sessions {
    /// A session was begun.
    pub(super) fn begun(&self, session: Session, ask: &Ask<'_>) {
        let mut all = self.0.lock();
        if all.len() >= MAX_SESSIONS {
            all.clear();
        }
        all.insert(session, Owner::of(ask));
    }

    /// True where the session goes on as it is.
    pub(super) fn goes_on(&self, session: &Session, ask: &Ask<'_>) -> bool {
        let mut all = self.0.lock();
        match all.get(session) {
            Some(owner) if *owner == Owner::of(ask) => true,
            // Somebody else's stays theirs.
            Some(owner) if owner.principal != *ask.principal() => false,
            _ => {
                all.remove(session);
                false
            }
        }
    }

    /// A session is over.
    pub(super) fn ended(&self, session: &Session) {
        self.0.lock().remove(session);
    }
}
