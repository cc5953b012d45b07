//! One ACL, in Kafka's words: somebody is allowed or denied an operation on what a pattern names.

use thiserror::Error;

/// The one name that there is of the cluster.
pub const CLUSTER: &str = "kafka-cluster";
/// As a literal name, all names; as a host, all hosts.
pub const ANY: &str = "*";

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $code:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i8)]
        pub enum $name { $($(#[$variant_meta])* $variant = $code),* }

        impl $name {
            /// All there are.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The one with this number on the wire; none where the number means a filter or nothing.
            pub fn from_code(code: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| *it as i8 == code)
            }
        }
    };
}

codes! {
    /// What can be protected (ResourceType).
    ResourceType {
        /// A topic.
        Topic = 2,
        /// A consumer or share group.
        Group = 3,
        /// The cluster, whose name is [`CLUSTER`].
        Cluster = 4,
        /// A transactional id.
        TransactionalId = 5,
        /// A user.
        User = 7,
    }
}

codes! {
    /// How a pattern's name is meant (PatternType).
    Pattern {
        /// This name, or all where it is `*`.
        Literal = 3,
        /// All names that begin so.
        Prefixed = 4,
    }
}

codes! {
    /// What is done (AclOperation).
    Operation {
        /// Everything.
        All = 2,
        /// Read.
        Read = 3,
        /// Write.
        Write = 4,
        /// Create.
        Create = 5,
        /// Delete.
        Delete = 6,
        /// Change.
        Alter = 7,
        /// See.
        Describe = 8,
        /// What brokers do to each other.
        ClusterAction = 9,
        /// See configs.
        DescribeConfigs = 10,
        /// Change configs.
        AlterConfigs = 11,
        /// Produce idempotently.
        IdempotentWrite = 12,
        /// Make delegation tokens for others.
        CreateTokens = 13,
        /// See others' delegation tokens.
        DescribeTokens = 14,
        /// Take part in two-phase commit.
        TwoPhaseCommit = 15,
    }
}

codes! {
    /// Whether it may be done (AclPermissionType).
    Permission {
        /// It may not, whatever else says that it may.
        Deny = 2,
        /// It may.
        Allow = 3,
    }
}

impl Operation {
    /// True where who may do the other operation may do this one (StandardAuthorizer.IMPLIES_DESCRIBE and the like).
    pub fn is_implied_by(self, other: Operation) -> bool {
        match self {
            Operation::Describe => {
                matches!(other, Operation::Read | Operation::Write | Operation::Delete | Operation::Alter)
            }
            Operation::DescribeConfigs => other == Operation::AlterConfigs,
            _ => false,
        }
    }
}

impl ResourceType {
    /// The operations that an answer's authorized_operations tell of (AclEntry.supportedOperations).
    pub fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, CreateTokens, Delete, Describe, DescribeConfigs,
            DescribeTokens, IdempotentWrite, Read, TwoPhaseCommit, Write,
        };
        match self {
            ResourceType::Topic => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
            ResourceType::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            ResourceType::Cluster => {
                &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite]
            }
            ResourceType::TransactionalId => &[Write, Describe, TwoPhaseCommit],
            ResourceType::User => &[CreateTokens, DescribeTokens],
        }
    }
}

/// An ACL (Kafka's AclBinding).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    /// On what kind of thing.
    pub resource_type: ResourceType,
    /// Its name, or how it begins.
    pub name: String,
    /// Which of the two.
    pub pattern: Pattern,
    /// Who: `User:name`, `User:*` for everybody.
    pub principal: String,
    /// From where: an address or `*`.
    pub host: String,
    /// What.
    pub operation: Operation,
    /// Whether.
    pub permission: Permission,
}

/// Why an ACL cannot be: INVALID_REQUEST with this sentence, as Kafka says it (AclApis, AclControlManager.validateNewAcl).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidAcl(pub String);

/// An ACL as a request names it, by numbers.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// See [`ResourceType`].
    pub resource_type: i8,
    /// The name.
    pub name: &'a str,
    /// See [`Pattern`].
    pub pattern: i8,
    /// Who.
    pub principal: &'a str,
    /// From where.
    pub host: &'a str,
    /// See [`Operation`].
    pub operation: i8,
    /// See [`Permission`].
    pub permission: i8,
}

/// Kafka's DELEGATION_TOKEN.
const DELEGATION_TOKEN: i8 = 6;

impl TryFrom<Asked<'_>> for Acl {
    type Error = InvalidAcl;

    fn try_from(asked: Asked<'_>) -> Result<Self, InvalidAcl> {
        let invalid = |what: &str, code: i8| InvalidAcl(format!("Invalid {what} {code}"));
        if asked.resource_type == DELEGATION_TOKEN {
            return Err(InvalidAcl("krocket has no delegation tokens, so there is nothing to protect".to_owned()));
        }
        let resource_type =
            ResourceType::from_code(asked.resource_type).ok_or_else(|| invalid("resourceType", asked.resource_type))?;
        if resource_type == ResourceType::Cluster && asked.name != CLUSTER {
            return Err(InvalidAcl(format!("The only valid name for the CLUSTER resource is {CLUSTER}")));
        }
        if asked.name.is_empty() {
            return Err(InvalidAcl("Invalid empty resource name".to_owned()));
        }
        if !asked.principal.contains(':') {
            return Err(InvalidAcl(format!(
                "Could not parse principal from `{}` (no colon is present separating the principal type from the \
                 principal name)",
                asked.principal
            )));
        }
        Ok(Acl {
            resource_type,
            name: asked.name.to_owned(),
            pattern: Pattern::from_code(asked.pattern).ok_or_else(|| invalid("patternType", asked.pattern))?,
            principal: asked.principal.to_owned(),
            host: asked.host.to_owned(),
            operation: Operation::from_code(asked.operation).ok_or_else(|| invalid("operation", asked.operation))?,
            permission: Permission::from_code(asked.permission)
                .ok_or_else(|| invalid("permissionType", asked.permission))?,
        })
    }
}

/// Which ACLs are meant (Kafka's AclBindingFilter). 1 is any of a kind; a pattern of 2 is whatever applies to the name.
#[derive(Clone, Copy, Debug)]
pub struct AclFilter<'a> {
    /// See [`ResourceType`].
    pub resource_type: i8,
    /// The name; none for any.
    pub name: Option<&'a str>,
    /// See [`Pattern`].
    pub pattern: i8,
    /// Who; none for anybody.
    pub principal: Option<&'a str>,
    /// From where; none for anywhere.
    pub host: Option<&'a str>,
    /// See [`Operation`].
    pub operation: i8,
    /// See [`Permission`].
    pub permission: i8,
}

const ANY_CODE: i8 = 1;
const MATCH: i8 = 2;

impl AclFilter<'_> {
    /// Refuses numbers that mean nothing (AclControlManager.validateFilter).
    pub fn check(&self) -> Result<(), InvalidAcl> {
        let any = |code: i8, known: bool| code == ANY_CODE || known;
        let pattern = any(self.pattern, self.pattern == MATCH || Pattern::from_code(self.pattern).is_some());
        let known_type =
            self.resource_type == DELEGATION_TOKEN || ResourceType::from_code(self.resource_type).is_some();
        if !pattern || !any(self.resource_type, known_type) {
            return Err(InvalidAcl("Unknown patternFilter.".to_owned()));
        }
        if !any(self.operation, Operation::from_code(self.operation).is_some())
            || !any(self.permission, Permission::from_code(self.permission).is_some())
        {
            return Err(InvalidAcl("Unknown entryFilter.".to_owned()));
        }
        Ok(())
    }

    /// True for an ACL that is meant (ResourcePatternFilter.matches, AccessControlEntryFilter.matches).
    pub fn matches(&self, acl: &Acl) -> bool {
        let is = |code: i8, of: i8| code == ANY_CODE || code == of;
        let same = |asked: Option<&str>, of: &str| asked.is_none_or(|asked| asked == of);
        is(self.resource_type, acl.resource_type as i8)
            && is(self.operation, acl.operation as i8)
            && is(self.permission, acl.permission as i8)
            && same(self.principal, &acl.principal)
            && same(self.host, &acl.host)
            && self.names(acl)
    }

    fn names(&self, acl: &Acl) -> bool {
        if self.pattern != ANY_CODE && self.pattern != MATCH && self.pattern != acl.pattern as i8 {
            return false;
        }
        let Some(name) = self.name else { return true };
        if self.pattern != MATCH {
            return name == acl.name;
        }
        match acl.pattern {
            Pattern::Literal => name == acl.name || acl.name == ANY,
            Pattern::Prefixed => name.starts_with(&acl.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(resource_type: i8, name: &str, pattern: i8) -> Asked<'_> {
        Asked { resource_type, name, pattern, principal: "User:a", host: "*", operation: 3, permission: 3 }
    }

    #[test]
    fn what_cannot_be_is_refused_in_kafkas_words() {
        let valid = asked(2, "orders", 3);
        let cases = [
            (asked(0, "x", 3), "Invalid resourceType 0"),
            (asked(1, "x", 3), "Invalid resourceType 1"),
            (asked(6, "x", 3), "delegation tokens"),
            (asked(4, "x", 3), "The only valid name for the CLUSTER resource is kafka-cluster"),
            (asked(2, "", 3), "Invalid empty resource name"),
            (asked(2, "x", 1), "Invalid patternType 1"),
            (asked(2, "x", 2), "Invalid patternType 2"),
            (Asked { operation: 1, ..valid }, "Invalid operation 1"),
            (Asked { operation: 0, ..valid }, "Invalid operation 0"),
            (Asked { permission: 1, ..valid }, "Invalid permissionType 1"),
            (Asked { principal: "alice", ..valid }, "Could not parse principal from `alice`"),
        ];
        for (asked, why) in cases {
            let error = Acl::try_from(asked).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(Acl::try_from(valid).expect("valid").name, "orders");
    }

    #[test]
    fn a_filter_finds_what_kafkas_would() {
        let acls: Vec<Acl> = [(3, "orders"), (4, "ord"), (3, "*"), (4, "orders-"), (3, "ord")]
            .map(|(pattern, name)| Acl::try_from(asked(2, name, pattern)).expect("valid"))
            .into();
        let found = |pattern: i8, name: Option<&str>| -> Vec<usize> {
            let filter =
                AclFilter { resource_type: 1, name, pattern, principal: None, host: None, operation: 1, permission: 1 };
            filter.check().expect("known");
            (0..acls.len()).filter(|at| filter.matches(&acls[*at])).collect()
        };
        assert_eq!(found(1, None), [0, 1, 2, 3, 4], "any");
        assert_eq!(found(1, Some("ord")), [1, 4], "any pattern of that name");
        assert_eq!(found(2, Some("orders")), [0, 1, 2], "match");
        assert_eq!(found(3, Some("orders")), [0], "literal");
        assert_eq!(found(4, Some("ord")), [1], "prefixed");
        assert_eq!(found(3, Some("*")), [2], "the wildcard itself");
        assert_eq!(found(4, None), [1, 3], "prefixed, of any name");
    }
}
