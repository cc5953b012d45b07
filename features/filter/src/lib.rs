//! Views: topics without a log that show a part of another topic, chosen by tags or SQL92 over record headers.

pub mod expression;
pub mod sql;
pub mod tag;

mod define;
mod http;
mod index;
mod layer;
mod metrics;
mod read;
mod registry;
mod row;
mod share;
mod view;
mod worker;

use std::sync::Arc;

use krocket_config::rules::Live;
use krocket_stack::{Handler, Ledger};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

pub use expression::{Expression, Fields, FilterError};
pub use layer::FilterLayer;
pub use share::share_filter;
pub use view::{AUTO, FILTER, SOURCE};

/// The views of a backend.
#[derive(Clone)]
pub struct Views(Arc<registry::Shared>);

impl Views {
    /// Reads the views there are. `next` is what the [layer](Self::layer) is put round.
    pub fn new(ledger: Arc<dyn Ledger>, next: Arc<dyn Handler>, rules: Live) -> Self {
        Views(Arc::new(registry::Shared::new(ledger, next, rules)))
    }

    /// The layer that answers for views; the outermost of all features'.
    pub fn layer(&self) -> FilterLayer {
        FilterLayer(self.0.clone())
    }

    /// Indexes and reconciles until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        worker::run(self.0, stop).await;
    }

    /// What a view shows a part of, also of one that a subscription would bring; `None` for any other topic.
    pub fn source(&self, topic: &str) -> Option<String> {
        let shared = &self.0;
        if let Some((source, _)) = registry::configured(&*shared.ledger, topic) {
            return Some(source);
        }
        if !topic.contains(define::SEPARATOR) || shared.ledger.topic(topic).is_some() {
            return None;
        }
        define::auto(&*shared.ledger, topic).map(|(source, _)| source.to_owned())
    }

    /// `/v1/views`
    pub fn routes(&self) -> OpenApiRouter {
        http::routes(self.0.clone())
    }
}
