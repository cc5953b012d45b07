//! The layer: marks batches that the index is interested in. The index itself is built behind.

use std::sync::Arc;

use krocket_config::rules::Live;
use krocket_features::headers::{Name, mentioned};
use krocket_features::produce::resolve;
use krocket_protocol::ApiKey;
use krocket_stack::{BoxFuture, Error, Handler, Layer, Ledger, Request, Response};

const WANTED: &[Name] = &[Name::KEYS, Name::UNIQ_KEY, Name::ORIGIN_MESSAGE_ID];

/// Marks what is to be indexed.
pub struct Indexed {
    ledger: Arc<dyn Ledger>,
    rules: Live,
}

impl Indexed {
    /// By these rules.
    pub fn new(ledger: Arc<dyn Ledger>, rules: Live) -> Self {
        Indexed { ledger, rules }
    }
}

impl Layer for Indexed {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn wants(&self, api: ApiKey) -> bool {
        api == ApiKey::Produce
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        Box::pin(async move {
            let (head, mut produce) = request.into_produce()?;
            resolve(&mut produce, &*self.ledger);
            let rules = self.rules.get();
            for (topic, partition) in produce.open_partitions() {
                if let Some(lookup) = &rules.topic(topic).lookup {
                    partition.notes.indexed |= lookup.key || mentioned(partition).any(WANTED);
                }
            }
            next.call(Request::from_produce(head, produce)).await
        })
    }
}
