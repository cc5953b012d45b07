//! The embedded backend: answers Kafka requests from a commit log on this machine.
//!
//! One file per Kafka API in [`api`]; what they share in [`log`], [`group`] and [`topics`].

pub mod api;
pub mod config;
pub mod group;
pub mod log;
pub mod settings;
mod share;
pub mod topics;
mod txn;

mod cluster;
mod dispatch;
mod fetch_session;
mod ledger;
mod pattern;
mod producer_ids;
mod security;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use security::Store;
use security::acls::AclKind;
use security::credentials::CredentialKind;
use security::mutations::Mutations;
use security::quotas::QuotaKind;
pub use settings::Settings;

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] krocket_store::StoreError),
    /// The log cannot be read or written.
    #[error(transparent)]
    Storage(#[from] log::StorageError),
    /// What the log holds, or a broker config of the configuration file.
    #[error(transparent)]
    Load(#[from] topics::LoadError),
    /// Groups cannot be loaded.
    #[error(transparent)]
    Groups(#[from] group::JournalError),
}

/// The embedded broker.
pub struct Broker {
    /// What it was started with.
    pub settings: Settings,
    /// Kafka's 22 characters.
    pub cluster_id: String,
    /// Broker and group configs.
    pub configs: Arc<config::Configs>,
    /// Topics and their configurations.
    pub topics: topics::Topics,
    /// Consumer groups.
    pub groups: Arc<group::Coordinator>,
    /// What is stored, and where it is stored.
    pub log: log::Log,
    /// Random bytes that are this cluster's for ever.
    pub secret: Vec<u8>,
    sessions: fetch_session::Sessions,
    credentials: Arc<Store<CredentialKind>>,
    acls: Arc<Store<AclKind>>,
    quotas: Arc<Store<QuotaKind>>,
    mutations: Mutations,
    producer_ids: Arc<producer_ids::ProducerIds>,
    transactions: Arc<txn::Transactions>,
    shares: Arc<share::Shares>,
}

impl Broker {
    /// Opens the data folder, recovering whatever a crash left, and loads topics and groups. It blocks, so it belongs on a
    /// thread of a tokio runtime that may: `spawn_blocking`.
    pub fn open(data_dir: &Path, settings: Settings) -> Result<Arc<Self>, OpenError> {
        let log = log::Log::open(data_dir, settings.log.clone())?;
        let cluster_id = cluster::id(&log, settings.cluster_id)?;
        let secret = cluster::secret(&log)?;
        let credentials = Store::load(&log)?;
        let configs = Arc::new(config::Configs::load(&log, &settings, data_dir)?);
        let topics = topics::Topics::load(&log, settings.node_id, configs.clone())?;
        let groups = group::open(&log, &topics, &configs)?;
        let producer_ids = Arc::new(producer_ids::ProducerIds::default());
        let transactions = txn::Transactions::open(&log, &topics, groups.clone(), producer_ids.clone())?;
        let acls = Store::load(&log)?;
        let quotas: Arc<Store<QuotaKind>> = Store::load(&log)?;
        let burst = configs.broker().controller_quota_windows.span();
        let mutations = Mutations::new(quotas.snapshot().clone(), burst);
        let shares = share::Shares::open(&log, &topics, &configs)?;
        groups.set_share_state(shares.clone());
        let broker = Arc::new(Broker {
            settings,
            cluster_id,
            configs,
            topics,
            groups,
            log,
            credentials,
            secret,
            sessions: fetch_session::Sessions::default(),
            acls,
            quotas,
            mutations,
            producer_ids,
            transactions,
            shares,
        });
        tokio::runtime::Handle::current().block_on(broker.topics.finish_deletions())?;
        let weak = Arc::downgrade(&broker);
        let longest = Duration::from_millis(broker.configs.broker().retention_check_interval_ms);
        broker.log.start_housekeeping(longest, move || weak.upgrade().map(|broker| broker.jobs()));
        Ok(broker)
    }

    /// The SCRAM credentials as they are, for logins.
    pub fn credentials(&self) -> Arc<krocket_stack::security::Credentials> {
        self.credentials.snapshot().clone()
    }

    /// The ACLs as they are, for whoever decides by them.
    pub fn acls(&self) -> Arc<krocket_stack::security::Acls> {
        self.acls.snapshot().clone()
    }

    /// The client quotas as they are, for whoever throttles by them.
    pub fn quotas(&self) -> Arc<krocket_stack::security::Quotas> {
        self.quotas.snapshot().clone()
    }

    /// Every partition, with the configuration that it is kept by.
    fn jobs(&self) -> Vec<log::Job> {
        let jobs = |topic: Arc<topics::Topic>| {
            let config = topic.config.load_full();
            let partitions = topic.partitions.load_full();
            (0..partitions.len()).map(move |index| (partitions[index].clone(), config.clone()))
        };
        self.topics.all().into_iter().flat_map(jobs).collect()
    }
}
