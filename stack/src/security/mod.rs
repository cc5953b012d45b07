//! What the broker keeps and the edges of krocket need of it: who may come in, what they may do and how much they may use.
//!
//! Each is a snapshot that the backend replaces as a whole when it changed and that others read without locks.

pub mod acl;
pub mod acls;
pub mod quotas;
pub mod scram;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use acl::{Acl, InvalidAcl, Operation, Pattern, Permission, ResourceType};
pub use acls::{AclSet, Acls, Who};
pub use quotas::{Entity, Limit, Name, QuotaKey, QuotaSet, Quotas, Sharers, Values, Windows};
pub use scram::{ScramCredential, ScramMechanism};

/// The SCRAM credentials that were set with Kafka's admin call.
#[derive(Debug, Default)]
pub struct Credentials {
    users: ArcSwap<Users>,
}

/// Users by name, with their credentials by mechanism.
pub type Users = HashMap<String, HashMap<ScramMechanism, Arc<ScramCredential>>>;

impl Credentials {
    /// One user's credential.
    pub fn get(&self, user: &str, mechanism: ScramMechanism) -> Option<Arc<ScramCredential>> {
        self.users.load().get(user)?.get(&mechanism).cloned()
    }

    /// Any of a user's credentials, the stronger mechanism first.
    pub fn any(&self, user: &str) -> Option<(ScramMechanism, Arc<ScramCredential>)> {
        let users = self.users.load();
        let known = users.get(user)?;
        [ScramMechanism::Sha512, ScramMechanism::Sha256].into_iter().find_map(|it| Some((it, known.get(&it)?.clone())))
    }

    /// Everybody.
    pub fn all(&self) -> Arc<Users> {
        self.users.load_full()
    }

    /// Replaces everybody.
    pub fn set(&self, users: Users) {
        self.users.store(Arc::new(users));
    }
}
