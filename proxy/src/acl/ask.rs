//! One request's questions: may this user, from there, do that?

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::security::acl::CLUSTER;
use krocket_stack::security::acls::Decision;
use krocket_stack::security::{AclSet, Operation, ResourceType, Who};
use krocket_stack::{Connection, Principal, ProducePartition};
use uuid::Uuid;

use super::{Catalog, Shared, denied};

/// authorized_operations where they were not asked for.
const NOT_ASKED: i32 = i32::MIN;

/// Decides for one request, by the ACLs as they were when it began.
pub struct Ask<'a> {
    shared: &'a Shared,
    acls: Arc<AclSet>,
    connection: &'a Connection,
    is_super: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn new(shared: &'a Shared, connection: &'a Connection) -> Self {
        let is_super = connection.is_internal() || shared.policy.super_users.contains(connection.principal());
        Ask { acls: shared.acls.get(), shared, connection, is_super }
    }

    /// True for whoever may do everything.
    pub fn is_super(&self) -> bool {
        self.is_super
    }

    /// Who asks.
    pub fn principal(&self) -> &Principal {
        self.connection.principal()
    }

    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    pub(super) fn host(&self) -> IpAddr {
        self.connection.peer.ip()
    }

    pub(super) fn version(&self) -> u64 {
        self.acls.version()
    }

    fn catalog(&self) -> &dyn Catalog {
        &*self.shared.catalog
    }

    fn who(&self) -> Who<'_> {
        Who { principal: self.principal(), host: self.host() }
    }

    fn is_allowed(&self, decision: Decision) -> bool {
        match decision {
            Decision::Allowed => true,
            Decision::Denied => false,
            Decision::NoRule => self.shared.policy.allow_if_no_acl,
        }
    }

    fn decide(&self, operation: Operation, kind: ResourceType, name: &str) -> bool {
        self.is_super || self.is_allowed(self.acls.decide(self.who(), operation, kind, name))
    }

    /// What may be done to a topic that is a view or belongs to a group: the source and the group have a say.
    fn decide_topic(&self, operation: Operation, topic: &str) -> bool {
        if !self.decide(operation, ResourceType::Topic, topic) {
            return false;
        }
        let group = match operation {
            Operation::Read | Operation::Write => self.catalog().group(topic),
            _ => None,
        };
        if group.is_some_and(|group| !self.decide(Operation::Read, ResourceType::Group, &group)) {
            return false;
        }
        match operation {
            Operation::Read | Operation::Describe => {
                self.catalog().source(topic).is_none_or(|source| self.decide(operation, ResourceType::Topic, &source))
            }
            _ => true,
        }
    }

    /// Whether it would be allowed; nobody is told.
    pub fn would(&self, operation: Operation, kind: ResourceType, name: &str) -> bool {
        match kind {
            _ if self.is_super => true,
            ResourceType::Topic => self.decide_topic(operation, name),
            _ => self.decide(operation, kind, name),
        }
    }

    /// Whether it is allowed; counted, and logged where it is not.
    pub fn may(&self, operation: Operation, kind: ResourceType, name: &str) -> bool {
        let allowed = self.would(operation, kind, name);
        denied::count(allowed, self.connection, operation, kind, name);
        allowed
    }

    /// Whether a topic may be read, written, ...
    pub(super) fn topic(&self, operation: Operation, topic: &str) -> bool {
        self.may(operation, ResourceType::Topic, topic)
    }

    /// Whether a topic may be read, as an error code.
    pub(super) fn read(&self, topic: &str) -> Result<(), ErrorCode> {
        match self.topic(Operation::Read, topic) {
            true => Ok(()),
            false => Err(ErrorCode::TopicAuthorizationFailed),
        }
    }

    /// As [`topic`](Self::topic), of one that is named by its id. One that is not there is no secret: the backend says so.
    pub(super) fn topic_id(&self, operation: Operation, id: Uuid) -> bool {
        self.name(id).is_none_or(|name| self.topic(operation, &name))
    }

    /// A topic as a request names it: by id where there is one.
    pub(super) fn either(&self, operation: Operation, name: &str, id: Uuid) -> bool {
        if id.is_nil() { self.topic(operation, name) } else { self.topic_id(operation, id) }
    }

    pub(super) fn name(&self, id: Uuid) -> Option<StrBytes> {
        self.catalog().name(id)
    }

    pub(super) fn cluster(&self, operation: Operation) -> Result<(), ErrorCode> {
        match self.may(operation, ResourceType::Cluster, CLUSTER) {
            true => Ok(()),
            false => Err(ErrorCode::ClusterAuthorizationFailed),
        }
    }

    pub(super) fn would_cluster(&self, operation: Operation) -> bool {
        self.would(operation, ResourceType::Cluster, CLUSTER)
    }

    pub(super) fn group(&self, operation: Operation, group: &str) -> Result<(), ErrorCode> {
        match self.may(operation, ResourceType::Group, group) {
            true => Ok(()),
            false => Err(ErrorCode::GroupAuthorizationFailed),
        }
    }

    pub(super) fn transactional_id(&self, operation: Operation, id: &str) -> Result<(), ErrorCode> {
        match self.may(operation, ResourceType::TransactionalId, id) {
            true => Ok(()),
            false => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        }
    }

    /// Whether there is any topic that it may write (AuthHelper.authorizeByResourceType).
    pub(super) fn writes_any_topic(&self) -> bool {
        self.is_super || self.is_allowed(self.acls.any(self.who(), Operation::Write, ResourceType::Topic))
    }

    /// Whether asking for this topic would create it, and may not.
    pub(super) fn must_not_create(&self, topic: &str, allowed: bool) -> bool {
        if self.catalog().exists(topic) {
            return false;
        }
        // It comes with its group.
        if let Some(group) = self.catalog().group(topic) {
            return self.group(Operation::Read, &group).is_err();
        }
        let creates = (allowed && self.catalog().creates_topics()) || self.catalog().source(topic).is_some();
        creates && !self.creates(topic)
    }

    /// Create on the cluster or on the topic.
    pub fn creates(&self, topic: &str) -> bool {
        self.would_cluster(Operation::Create) || self.topic(Operation::Create, topic)
    }

    pub(super) fn exists(&self, topic: &str) -> bool {
        self.catalog().exists(topic)
    }

    /// A topic that a batch for `topic` has krocket read, and that may not be read.
    pub(super) fn reads_secret(&self, topic: &str, partition: &mut ProducePartition) -> Option<String> {
        let read = self.catalog().reads(topic, partition);
        read.into_iter().collect::<HashSet<_>>().into_iter().find(|topic| !self.topic(Operation::Read, topic))
    }

    /// The bits of an answer's authorized_operations: what of `asked` this one may do.
    pub(super) fn operations(&self, asked: i32, kind: ResourceType, name: &str) -> i32 {
        if asked == NOT_ASKED {
            return asked;
        }
        let may = kind.operations().iter().filter(|operation| self.would(**operation, kind, name));
        may.fold(0, |bits, operation| bits | 1 << *operation as i32)
    }

    /// The same of the cluster, told only to those who may see it.
    pub(super) fn cluster_operations(&self, asked: i32) -> i32 {
        match asked {
            NOT_ASKED => asked,
            _ if !self.would_cluster(Operation::Describe) => 0,
            _ => self.operations(asked, ResourceType::Cluster, CLUSTER),
        }
    }
}
