//! All ACLs, and what they decide.
//!
//! The rules are those of Kafka's StandardAuthorizer: a denial wins, then permission is needed, and where no ACL names a
//! resource the default decides. A decision looks at a hash map, at one more for each length of prefix there is, and at
//! the rules for `*`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::acl::{ANY, Acl, Operation, Pattern, Permission, ResourceType};
use crate::principal::Principal;

/// The ACLs as they are now: the backend replaces them, everybody reads them.
#[derive(Debug, Default)]
pub struct Acls(ArcSwap<AclSet>);

impl Acls {
    /// As they are now. A request decides by one set from beginning to end.
    pub fn get(&self) -> Arc<AclSet> {
        self.0.load_full()
    }

    /// Puts others in place.
    pub fn set(&self, acls: BTreeSet<Acl>) {
        let version = self.0.load().version + 1;
        self.0.store(Arc::new(AclSet::new(acls, version)));
    }
}

/// ACLs that do not change.
#[derive(Debug, Default)]
pub struct AclSet {
    all: BTreeSet<Acl>,
    types: HashMap<ResourceType, Index>,
    version: u64,
}

/// Who asks, from where.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The user.
    pub principal: &'a Principal,
    /// The client's address.
    pub host: IpAddr,
}

#[derive(Debug, Default)]
struct Index {
    literal: HashMap<String, Vec<Rule>>,
    any: Vec<Rule>,
    /// By length, then by name.
    prefixed: BTreeMap<usize, HashMap<String, Vec<Rule>>>,
}

#[derive(Debug)]
struct Rule {
    principal: Named,
    host: Host,
    operation: Operation,
    permission: Permission,
}

#[derive(Debug)]
enum Named {
    Everybody,
    User(String),
    /// Of a kind that nobody is here.
    Nobody,
}

#[derive(Debug)]
enum Host {
    Any,
    Address(IpAddr),
    /// No address, so nobody's.
    Nowhere,
}

/// What the rules say of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allowed,
    /// It may not: a rule denies it, or rules there are do not allow it.
    Denied,
    /// No rule names the resource: the default decides.
    NoRule,
}

impl AclSet {
    /// Indexes them.
    pub fn new(all: BTreeSet<Acl>, version: u64) -> Self {
        let mut types: HashMap<ResourceType, Index> = HashMap::new();
        for acl in &all {
            let index = types.entry(acl.resource_type).or_default();
            let rules = match acl.pattern {
                Pattern::Literal if acl.name == ANY => &mut index.any,
                Pattern::Literal => index.literal.entry(acl.name.clone()).or_default(),
                Pattern::Prefixed => {
                    index.prefixed.entry(acl.name.len()).or_default().entry(acl.name.clone()).or_default()
                }
            };
            rules.push(Rule::new(acl));
        }
        AclSet { all, types, version }
    }

    /// Every ACL, in order.
    pub fn all(&self) -> &BTreeSet<Acl> {
        &self.all
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What the rules say of this.
    pub fn decide(&self, who: Who<'_>, operation: Operation, resource_type: ResourceType, name: &str) -> Decision {
        let Some(index) = self.types.get(&resource_type) else { return Decision::NoRule };
        let mut decision = Decision::NoRule;
        for rule in index.naming(name).flatten() {
            if decision == Decision::NoRule {
                decision = Decision::Denied;
            }
            if !rule.is_for(who) {
                continue;
            }
            match rule.permission {
                Permission::Deny if rule.operation == operation || rule.operation == Operation::All => {
                    return Decision::Denied;
                }
                Permission::Allow if rule.allows(operation) => decision = Decision::Allowed,
                _ => {}
            }
        }
        decision
    }

    /// True where there is any resource of the type that this may be done to (Authorizer.authorizeByResourceType).
    pub fn any(&self, who: Who<'_>, operation: Operation, resource_type: ResourceType) -> Decision {
        let Some(index) = self.types.get(&resource_type) else { return Decision::NoRule };
        let denies = |rule: &Rule| {
            rule.permission == Permission::Deny
                && rule.is_for(who)
                && (rule.operation == operation || rule.operation == Operation::All)
        };
        if index.any.iter().any(denies) {
            return Decision::Denied;
        }
        let allows = |rules: &[Rule]| {
            rules.iter().any(|rule| rule.permission == Permission::Allow && rule.is_for(who) && rule.allows(operation))
        };
        let denied = |name: &str, literal: bool| {
            let own = index.literal.get(name).filter(|_| literal).into_iter();
            own.chain(index.prefixes(name)).flatten().any(denies)
        };
        let names = index.literal.iter().map(|(name, rules)| (name, rules, true));
        let prefixes = index.prefixed.values().flatten().map(|(name, rules)| (name, rules, false));
        let found = allows(&index.any)
            || names.chain(prefixes).any(|(name, rules, literal)| allows(rules) && !denied(name, literal));
        if found { Decision::Allowed } else { Decision::Denied }
    }
}

impl Index {
    fn prefixes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Vec<Rule>> {
        self.prefixed.range(..=name.len()).filter_map(|(len, of)| of.get(name.get(..*len)?))
    }

    fn naming<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Vec<Rule>> {
        self.literal.get(name).into_iter().chain([&self.any]).chain(self.prefixes(name))
    }
}

impl Rule {
    fn new(acl: &Acl) -> Self {
        let principal = match Principal::parse(&acl.principal) {
            Some(user) if user.name == ANY => Named::Everybody,
            Some(user) => Named::User(user.name.into_owned()),
            None => Named::Nobody,
        };
        let host = match acl.host.parse::<IpAddr>() {
            _ if acl.host == ANY => Host::Any,
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => Host::Nowhere,
        };
        Rule { principal, host, operation: acl.operation, permission: acl.permission }
    }

    fn is_for(&self, who: Who<'_>) -> bool {
        let user = match &self.principal {
            Named::Everybody => true,
            Named::User(name) => *name == who.principal.name,
            Named::Nobody => false,
        };
        user && match self.host {
            Host::Any => true,
            Host::Address(address) => address == who.host.to_canonical(),
            Host::Nowhere => false,
        }
    }

    fn allows(&self, operation: Operation) -> bool {
        self.operation == operation || self.operation == Operation::All || operation.is_implied_by(self.operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{Allowed, Denied, NoRule};
    use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};

    /// `+ User:alice Read topic:orders 10.0.0.1`; a name that ends in `..` is a prefix.
    fn acl(text: &str) -> Acl {
        let mut words = text.split(' ');
        let mut word = || words.next();
        let permission = if word() == Some("+") { Permission::Allow } else { Permission::Deny };
        let principal = word().expect("a principal").to_owned();
        let operation = word().expect("an operation");
        let operation = Operation::ALL.iter().find(|it| format!("{it:?}") == operation).expect("known");
        let name = word().expect("a name");
        let (name, pattern) = match name.strip_suffix("..") {
            Some(prefix) => (prefix, Pattern::Prefixed),
            None => (name, Pattern::Literal),
        };
        Acl {
            resource_type: ResourceType::Topic,
            name: name.to_owned(),
            pattern,
            principal,
            host: word().unwrap_or(ANY).to_owned(),
            operation: *operation,
            permission,
        }
    }

    fn set(acls: &[&str]) -> AclSet {
        AclSet::new(acls.iter().map(|text| acl(text)).collect(), 0)
    }

    fn alice() -> Principal {
        Principal::user("alice")
    }

    #[test]
    fn the_decision_is_standard_authorizers() {
        let cases: &[(&[&str], Operation, &str, Decision)] = &[
            (&[], Read, "orders", NoRule),
            (&["+ User:bob Read orders"], Read, "orders", Denied),
            (&["+ User:bob Read orders"], Read, "other", NoRule),
            (&["+ User:alice Read orders"], Read, "orders", Allowed),
            (&["+ User:alice Read orders"], Write, "orders", Denied),
            (&["+ User:* Read orders"], Read, "orders", Allowed),
            (&["+ Group:alice Read orders"], Read, "orders", Denied),
            (&["+ User:alice Read *"], Read, "orders", Allowed),
            (&["+ User:alice Read ord.."], Read, "orders", Allowed),
            (&["+ User:alice Read orders.."], Read, "orders", Allowed),
            (&["+ User:alice Read orders-.."], Read, "orders", NoRule),
            (&["+ User:alice All orders"], Delete, "orders", Allowed),
            (&["+ User:alice All orders", "- User:alice Delete orders"], Delete, "orders", Denied),
            (&["+ User:alice All orders", "- User:alice Delete orders"], Read, "orders", Allowed),
            (&["+ User:alice Read orders", "- User:alice All ord.."], Read, "orders", Denied),
            (&["+ User:alice Read orders", "- User:* Read *"], Read, "orders", Denied),
            (&["+ User:alice Read orders", "- User:bob Read orders"], Read, "orders", Allowed),
            // A denial denies what it names and nothing that this would imply.
            (&["+ User:alice Describe orders", "- User:alice Read orders"], Describe, "orders", Allowed),
            (&["+ User:alice Read orders"], Describe, "orders", Allowed),
            (&["+ User:alice Write orders"], Describe, "orders", Allowed),
            (&["+ User:alice Delete orders"], Describe, "orders", Allowed),
            (&["+ User:alice Alter orders"], Describe, "orders", Allowed),
            (&["+ User:alice AlterConfigs orders"], Describe, "orders", Denied),
            (&["+ User:alice AlterConfigs orders"], DescribeConfigs, "orders", Allowed),
            (&["+ User:alice Describe orders"], Alter, "orders", Denied),
            (&["+ User:alice Read orders", "- User:alice Describe orders"], Describe, "orders", Denied),
            (&["+ User:alice DescribeConfigs orders"], AlterConfigs, "orders", Denied),
            (&["+ User:alice Read orders 10.0.0.1"], Read, "orders", Allowed),
            (&["+ User:alice Read orders 10.0.0.2"], Read, "orders", Denied),
            (&["+ User:alice All *", "- User:alice Write orders 10.0.0.1"], Write, "orders", Denied),
            (&["+ User:alice Read é.."], Read, "ée", Allowed),
            (&["+ User:alice Read a.."], Read, "é", NoRule),
        ];
        let (principal, host) = (alice(), "::ffff:10.0.0.1".parse().expect("an address"));
        for (acls, operation, name, expected) in cases {
            let who = Who { principal: &principal, host };
            let decision = set(acls).decide(who, *operation, ResourceType::Topic, name);
            assert_eq!(decision, *expected, "{acls:?} {operation:?} {name}");
        }
        assert_eq!(cases.len(), 32);
    }

    #[test]
    fn any_resource_of_a_type_is_found_unless_all_that_allow_are_denied() {
        let cases: &[(&[&str], Decision)] = &[
            (&[], NoRule),
            (&["+ User:alice Read orders"], Denied),
            (&["+ User:alice Write orders"], Allowed),
            (&["+ User:alice Write orders", "- User:alice Write orders"], Denied),
            (&["+ User:alice Write orders", "- User:alice All ord.."], Denied),
            (&["+ User:alice Write ord..", "- User:alice All orders"], Allowed),
            (&["+ User:alice Write orders..", "- User:alice Write ord.."], Denied),
            (&["+ User:alice Write *", "- User:alice Write *"], Denied),
            (&["+ User:alice Write *", "- User:alice Write ord.."], Allowed),
        ];
        let (principal, host) = (alice(), IpAddr::from([10, 0, 0, 1]));
        for (acls, expected) in cases {
            let decision = set(acls).any(Who { principal: &principal, host }, Write, ResourceType::Topic);
            assert_eq!(decision, *expected, "{acls:?}");
        }
    }

    #[test]
    fn a_change_is_seen_at_once_and_counted() {
        let acls = Acls::default();
        let before = acls.get();
        acls.set([acl("+ User:alice All orders")].into());
        assert_eq!((before.version(), acls.get().version()), (0, 1));
        assert_eq!(acls.get().all().iter().map(|acl| acl.operation).collect::<Vec<_>>(), [All]);
    }
}
