//! The order of things: the one place where layers are put round the backend, and where what runs beside them is started.

use std::sync::Arc;
use std::time::Duration;

use krocket_broker::Broker;
use krocket_config::rules::Live;
use krocket_features::Reserved;
use krocket_filter::Views;
use krocket_half::{Checks, HalfMessages};
use krocket_lookup::{Indexed, Lookup};
use krocket_parking::Parking;
use krocket_proxy::acl::{Authorizer, Policy};
use krocket_retry::{DeadLetters, Retry};
use krocket_schedule::Schedule;
use krocket_stack::{Handler, Ledger, Stack};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::catalog::Topics;
use crate::share_rules::FeatureRules;

/// A backend with the features round it.
pub struct Features {
    /// What clients talk to.
    pub handler: Arc<dyn Handler>,
    /// Their HTTP endpoints.
    pub routes: OpenApiRouter,
    /// What names of topics mean to them.
    pub views: Views,
    /// What works in the background.
    workers: JoinSet<()>,
    stop: CancellationToken,
}

impl Features {
    /// Puts the features round a backend, innermost first, and starts their workers.
    pub fn start(backend: Arc<dyn Handler>, ledger: Arc<dyn Ledger>, rules: Live) -> Self {
        let (mut workers, stop) = (JoinSet::new(), CancellationToken::new());
        ledger.set_share_rules(Arc::new(FeatureRules::new(rules.clone())));
        let lookup = Lookup::new(ledger.clone(), backend.clone(), rules.clone());
        workers.spawn(lookup.clone().run(stop.clone()));
        // Below what parks, so that what is delivered is indexed as well.
        let backend = Stack::new(backend).layer(Indexed::new(ledger.clone(), rules.clone())).build();
        let parking = Parking::new(ledger.clone());
        // What is delivered passes nothing that would park it again.
        let checks = Checks::new(parking.clone(), rules.clone());
        checks.start(backend.clone());
        workers.spawn(parking.clone().run(backend.clone(), stop.clone()));
        workers.spawn(parking.clone().count(stop.clone()));
        workers.spawn(krocket_retry::sweep(ledger.clone(), stop.clone()));
        let topics = krocket_retry::Topics::new(ledger.clone(), rules.clone(), backend.clone());
        let letters = DeadLetters::new(ledger.clone(), rules.clone(), backend.clone());
        let stack = Stack::new(backend)
            .layer(Schedule::new(parking.clone(), rules.clone()))
            .layer(HalfMessages::new(parking.clone(), checks, rules.clone()))
            .layer(Retry::new(parking.clone(), topics, rules.clone()))
            .layer(Reserved::new(rules.clone()));
        let views = Views::new(ledger, stack.clone().build(), rules.clone());
        workers.spawn(views.clone().run(stop.clone()));
        let handler = stack.layer(views.layer()).build();
        let routes = OpenApiRouter::new()
            .merge(krocket_schedule::routes(parking.clone()))
            .merge(krocket_half::routes(parking.clone()))
            .merge(krocket_retry::waiting(parking, rules))
            .merge(krocket_retry::routes(letters))
            .merge(krocket_lookup::routes(lookup))
            .merge(views.routes());
        Features { handler, routes, views, workers, stop }
    }

    /// Puts the authorizer round everything.
    pub fn authorize(&mut self, broker: &Arc<Broker>, rules: Live, policy: Policy) -> Authorizer {
        let catalog = Topics { broker: broker.clone(), views: self.views.clone(), rules };
        let authorizer = Authorizer::new(broker.acls(), policy, Arc::new(catalog));
        self.handler = Stack::new(self.handler.clone()).layer(authorizer.clone()).build();
        authorizer
    }

    /// Ends the workers, which finish what they have begun; one that takes longer than `grace` is cut off, as by a crash.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        let ended = async {
            while let Some(ended) = self.workers.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a worker ended early");
                }
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!(workers = self.workers.len(), "background work did not end in time and is cut off");
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Fewest endpoints below /v1.
    pub(crate) const ENDPOINTS: usize = 28;

    /// The features round a broker of their own.
    pub(crate) async fn features() -> (Features, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().to_owned();
        let open = move || krocket_broker::Broker::open(&data, krocket_broker::Settings::default());
        let broker = tokio::task::spawn_blocking(open).await.expect("no panic").expect("opens");
        (Features::start(broker.clone(), broker, Live::default()), folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_hangs_does_not_keep_krocket_from_ending() {
        let (mut features, _folder) = testing::features().await;
        features.workers.spawn(std::future::pending());
        let grace = Duration::from_millis(200);
        tokio::time::timeout(grace * 50, features.stop(grace)).await.expect("it ends");
    }
}
