//! ACLs as rows: everything is in the key.

use krocket_stack::security::{Acl, Acls, Operation, Pattern, Permission, ResourceType};

use super::{All, FORMAT, Kind, MAX_KEY, check_format, put_text, take_text};
use crate::log::tables::ACLS;

/// Most ACLs; each is in memory.
pub(crate) const MAX_ACLS: usize = 100_000;

/// ACLs, for [`super::Store`].
pub(crate) struct AclKind;

impl Kind for AclKind {
    const TABLE: u8 = ACLS;
    const WHAT: &str = "an ACL";
    type Key = Acl;
    type Value = ();
    type Snapshot = Acls;

    /// Format, four numbers, three texts.
    fn key(acl: &Acl) -> Vec<u8> {
        let numbers = [acl.resource_type as u8, acl.pattern as u8, acl.operation as u8, acl.permission as u8];
        let mut key = vec![FORMAT];
        key.extend(numbers);
        for text in [&acl.name, &acl.principal, &acl.host] {
            put_text(&mut key, text);
        }
        key
    }

    fn value(_: &()) -> Vec<u8> {
        Vec::new()
    }

    fn decode(key: &[u8], _: &[u8]) -> Result<(Acl, ()), String> {
        check_format(*key.first().ok_or("its key is empty")?)?;
        Ok((decode(key).ok_or("its key is not an ACL")?, ()))
    }

    fn all(acls: &Acls) -> All<Self> {
        acls.get().all().iter().map(|acl| (acl.clone(), ())).collect()
    }

    fn publish(acls: &Acls, all: All<Self>) {
        acls.set(all.into_keys().collect());
    }
}

/// True for an ACL that a row can hold.
pub(crate) fn fits(acl: &Acl) -> bool {
    AclKind::key(acl).len() <= MAX_KEY
}

fn decode(key: &[u8]) -> Option<Acl> {
    let (&[_, resource_type, pattern, operation, permission], mut rest) = key.split_first_chunk::<5>()?;
    let (name, principal, host) = (take_text(&mut rest)?, take_text(&mut rest)?, take_text(&mut rest)?);
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
                assert_eq!(AclKind::decode(&AclKind::key(&acl), b""), Ok((acl, ())));
                seen += 1;
            }
        }
        assert_eq!(seen, 70);
        assert!(AclKind::decode(&[2, 2, 3, 3, 3], b"").is_err_and(|why| why.contains("format is 2")));
        assert!(AclKind::decode(b"", b"").is_err() && AclKind::decode(&[1, 2, 3], b"").is_err());
    }
}
