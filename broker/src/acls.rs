//! ACLs: rows of the log, shared with whoever decides by them.

use std::collections::BTreeSet;
use std::sync::Arc;

use krocket_stack::security::{Acl, Acls, Operation, Pattern, Permission, ResourceType};
use tokio::sync::Mutex;

use crate::log::tables::ACLS;
use crate::log::{Durability, Log, StorageError, Write};
use crate::topics::LoadError;

/// The layout written by this version; it begins a row's key.
const FORMAT: u8 = 1;
/// Longest key of a row: what an op of the log carries.
const MAX_KEY: usize = u16::MAX as usize;
/// Most ACLs; each is in memory.
pub(crate) const MAX_ACLS: usize = 100_000;

/// All ACLs and the right to change them.
pub(crate) struct AclStore {
    log: Log,
    shared: Arc<Acls>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl AclStore {
    /// Reads what is stored.
    pub(crate) fn load(log: &Log) -> Result<Arc<Self>, LoadError> {
        let mut all = BTreeSet::new();
        for row in log.scan(ACLS, b"") {
            let (key, _) = row?;
            let acl =
                decode(&key).ok_or_else(|| LoadError::Row { what: "an ACL", why: "not of this version".to_owned() })?;
            all.insert(acl);
        }
        let shared = Arc::new(Acls::default());
        shared.set(all);
        Ok(Arc::new(AclStore { log: log.clone(), shared, changing: Mutex::default() }))
    }

    /// What others read.
    pub(crate) fn shared(&self) -> &Arc<Acls> {
        &self.shared
    }

    /// Stores what `change` makes of the ACLs as one frame, then makes it visible. It happens even if the caller goes
    /// away.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut BTreeSet<Acl>) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let store = self.clone();
        let done = tokio::spawn(async move {
            let _one = store.changing.lock().await;
            let before = store.shared.get();
            let mut after = before.all().clone();
            let outcome = change(&mut after);
            let added = after.difference(before.all());
            let added = added.map(|acl| Write::Put { table: ACLS, key: encode(acl), value: Vec::new() });
            let gone = before.all().difference(&after);
            let gone = gone.map(|acl| Write::Delete { table: ACLS, key: encode(acl) });
            let writes: Vec<Write> = added.chain(gone).collect();
            if !writes.is_empty() {
                store.log.commit(writes, Durability::Synced).await?;
                store.shared.set(after);
            }
            Ok(outcome)
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a change of ACLs was cut off");
            Err(StorageError { message: "the broker is shutting down".to_owned(), passing: false })
        })
    }
}

/// True for an ACL that a row can hold.
pub(crate) fn fits(acl: &Acl) -> bool {
    17 + acl.name.len() + acl.principal.len() + acl.host.len() <= MAX_KEY
}

/// Everything is in the key: format, four numbers, three texts with their lengths before them.
fn encode(acl: &Acl) -> Vec<u8> {
    let numbers = [acl.resource_type as u8, acl.pattern as u8, acl.operation as u8, acl.permission as u8];
    let mut key = vec![FORMAT];
    key.extend(numbers);
    for text in [&acl.name, &acl.principal, &acl.host] {
        key.extend((text.len() as u32).to_be_bytes());
        key.extend(text.as_bytes());
    }
    key
}

fn decode(key: &[u8]) -> Option<Acl> {
    let (&[FORMAT, resource_type, pattern, operation, permission], mut rest) = key.split_first_chunk::<5>()? else {
        return None;
    };
    let mut text = || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (text, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        rest = after;
        String::from_utf8(text.to_vec()).ok()
    };
    let (name, principal, host) = (text()?, text()?, text()?);
    rest.is_empty().then_some(())?;
    Some(Acl {
        resource_type: ResourceType::from_code(resource_type as i8)?,
        pattern: Pattern::from_code(pattern as i8)?,
        operation: Operation::from_code(operation as i8)?,
        permission: Permission::from_code(permission as i8)?,
        name,
        principal,
        host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_acl_comes_back_from_its_row() {
        let mut seen = 0;
        for resource_type in ResourceType::ALL {
            for operation in Operation::ALL {
                let acl = Acl {
                    resource_type: *resource_type,
                    name: "é ".to_owned(),
                    pattern: Pattern::Prefixed,
                    principal: "User:*".to_owned(),
                    host: String::new(),
                    operation: *operation,
                    permission: Permission::Deny,
                };
                assert_eq!(decode(&encode(&acl)), Some(acl));
                seen += 1;
            }
        }
        assert_eq!(seen, 70);
        assert_eq!(decode(&[2, 2, 3, 3, 3]), None, "another format");
        assert_eq!(decode(b""), None);
    }
}
