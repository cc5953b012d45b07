//! The authorizer: the outermost layer, which lets pass what ACLs allow.
//!
//! The rules are Kafka's (KafkaApis, ControllerApis and the table "Authorization: operations and resources on
//! protocols" of its documentation). What may not be done is taken out of the request, and the answer says so; an API
//! without a rule is refused. On top of Kafka's rules: a view needs its source's permission as well, and topics that
//! belong to a group need that group's.

mod ask;
mod cluster;
mod configs;
mod denied;
mod fetch;
mod groups;
mod metadata;
mod offsets;
mod produce;
mod rest;
mod sessions;
mod share;
mod streams;
mod topics;
mod txn;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use krocket_protocol::{ApiKey, StrBytes};
use krocket_stack::security::{AclSet, Acls};
use krocket_stack::{BoxFuture, Connection, Error, Handler, Layer, Principal, ProducePartition, Request, Response};
use uuid::Uuid;

pub use ask::Ask;

/// What the authorizer needs to know of topics; whoever puts the layers together implements it.
pub trait Catalog: Send + Sync + 'static {
    /// The name of the topic with this id.
    fn name(&self, id: Uuid) -> Option<StrBytes>;

    /// True for a topic that is there.
    fn exists(&self, topic: &str) -> bool;

    /// True where being asked for creates a topic.
    fn creates_topics(&self) -> bool;

    /// What a view shows a part of, also of a view that would come into being by being asked for; `None` for any other
    /// topic.
    fn source(&self, topic: &str) -> Option<String>;

    /// The group that a topic belongs to by its name.
    fn group(&self, topic: &str) -> Option<String>;

    /// Topics whose records a batch for this topic has krocket read.
    fn reads(&self, topic: &str, partition: &mut ProducePartition) -> Vec<String>;
}

/// Who may do everything, and what no ACL decides.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Who may do everything.
    pub super_users: HashSet<Principal>,
    /// True: what no ACL names is allowed to everybody.
    pub allow_if_no_acl: bool,
}

/// The layer, and the one place where decisions are made. Cheap to clone.
#[derive(Clone)]
pub struct Authorizer(Arc<Shared>);

pub(crate) struct Shared {
    acls: Arc<Acls>,
    policy: Policy,
    catalog: Arc<dyn Catalog>,
    sessions: sessions::Sessions,
}

impl Authorizer {
    /// Decides by these ACLs as they are at each request.
    pub fn new(acls: Arc<Acls>, policy: Policy, catalog: Arc<dyn Catalog>) -> Self {
        denied::register();
        Authorizer(Arc::new(Shared { acls, policy, catalog, sessions: sessions::Sessions::default() }))
    }

    /// Asks on behalf of whoever is behind a connection.
    pub fn ask<'a>(&'a self, connection: &'a Connection) -> Ask<'a> {
        Ask::new(&self.0, connection)
    }

    fn acls(&self) -> Arc<AclSet> {
        self.0.acls.get()
    }
}

impl Layer for Authorizer {
    fn name(&self) -> &'static str {
        "authorizer"
    }

    fn wants(&self, _: ApiKey) -> bool {
        true
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        let connection = request.head.connection.clone();
        if connection.is_internal() {
            return next.call(request);
        }
        Box::pin(async move {
            let ask = self.ask(&connection);
            if ask.is_super() {
                return next.call(request).await;
            }
            self.decide(&ask, request, next).await
        })
    }
}

impl Authorizer {
    /// Each API's rule.
    async fn decide(&self, ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
        use ApiKey::*;
        match request.head.api {
            // Nobody needs a permission to learn what is served, or to say who they are.
            ApiVersions | SaslHandshake | SaslAuthenticate => next.call(request).await,
            Produce => produce::call(ask, request, next).await,
            Fetch => fetch::call(self, ask, request, next).await,
            ListOffsets => offsets::list(ask, request, next).await,
            OffsetForLeaderEpoch => offsets::for_leader_epoch(ask, request, next).await,
            OffsetCommit => offsets::commit(ask, request, next).await,
            OffsetFetch => offsets::fetch(ask, request, next).await,
            OffsetDelete => offsets::delete(ask, request, next).await,
            Metadata => metadata::metadata(ask, request, next).await,
            DescribeTopicPartitions => metadata::topic_partitions(ask, request, next).await,
            DescribeCluster => metadata::cluster(ask, request, next).await,
            CreateTopics => topics::create(ask, request, next).await,
            DeleteTopics => topics::delete(ask, request, next).await,
            CreatePartitions => topics::create_partitions(ask, request, next).await,
            DeleteRecords => topics::delete_records(ask, request, next).await,
            DescribeProducers => topics::describe_producers(ask, request, next).await,
            DescribeConfigs => configs::describe(ask, request, next).await,
            AlterConfigs => configs::alter(ask, request, next).await,
            IncrementalAlterConfigs => configs::incremental_alter(ask, request, next).await,
            FindCoordinator => groups::find_coordinator(ask, request, next).await,
            JoinGroup => groups::join(ask, request, next).await,
            SyncGroup => groups::sync(ask, request, next).await,
            Heartbeat => groups::heartbeat(ask, request, next).await,
            LeaveGroup => groups::leave(ask, request, next).await,
            DescribeGroups => groups::describe(ask, request, next).await,
            ListGroups => groups::list(ask, request, next).await,
            DeleteGroups => groups::delete(ask, request, next).await,
            ConsumerGroupHeartbeat => groups::consumer_heartbeat(ask, request, next).await,
            ConsumerGroupDescribe => groups::consumer_describe(ask, request, next).await,
            ShareGroupHeartbeat => share::heartbeat(ask, request, next).await,
            ShareGroupDescribe => share::describe(ask, request, next).await,
            ShareFetch => share::fetch(self, ask, request, next).await,
            ShareAcknowledge => share::acknowledge(ask, request, next).await,
            DescribeShareGroupOffsets => share::describe_offsets(ask, request, next).await,
            AlterShareGroupOffsets => share::alter_offsets(ask, request, next).await,
            DeleteShareGroupOffsets => share::delete_offsets(ask, request, next).await,
            StreamsGroupHeartbeat => streams::heartbeat(ask, request, next).await,
            StreamsGroupDescribe => streams::describe(ask, request, next).await,
            InitProducerId => txn::init_producer_id(ask, request, next).await,
            AddPartitionsToTxn => txn::add_partitions(ask, request, next).await,
            AddOffsetsToTxn => txn::add_offsets(ask, request, next).await,
            EndTxn => txn::end(ask, request, next).await,
            TxnOffsetCommit => txn::offset_commit(ask, request, next).await,
            WriteTxnMarkers => txn::write_markers(ask, request, next).await,
            DescribeTransactions => txn::describe(ask, request, next).await,
            ListTransactions => txn::list(ask, request, next).await,
            DescribeAcls => cluster::describe_acls(ask, request, next).await,
            CreateAcls => cluster::create_acls(ask, request, next).await,
            DeleteAcls => cluster::delete_acls(ask, request, next).await,
            DescribeQuorum => cluster::describe_quorum(ask, request, next).await,
            DescribeLogDirs => cluster::describe_log_dirs(ask, request, next).await,
            ElectLeaders => cluster::elect_leaders(ask, request, next).await,
            AlterPartitionReassignments => cluster::alter_reassignments(ask, request, next).await,
            ListPartitionReassignments => cluster::list_reassignments(ask, request, next).await,
            ListConfigResources => cluster::list_config_resources(ask, request, next).await,
            DescribeUserScramCredentials => cluster::describe_scram(ask, request, next).await,
            AlterUserScramCredentials => cluster::alter_scram(ask, request, next).await,
            DescribeClientQuotas => cluster::describe_quotas(ask, request, next).await,
            AlterClientQuotas => cluster::alter_quotas(ask, request, next).await,
            // Not served. One that comes to be served without a rule fails a test, and lets nobody in.
            api => Err(Error::Close(format!("{api:?} has no authorization rule"))),
        }
    }
}
