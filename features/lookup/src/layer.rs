//! The layer: marks batches that the index is interested in. The index itself is built behind.

use std::sync::Arc;

use krocket_config::rules::Live;
use krocket_features::headers::{Name, mentioned};
use krocket_features::produce::{keys, records, resolve, uniq_key};
use krocket_protocol::ApiKey;
use krocket_stack::{BoxFuture, Error, Handler, Layer, Ledger, ProducePartition, Refusal, Request, Response};

const WANTED: &[Name] = &[Name::KEYS, Name::UNIQ_KEY, Name::ORIGIN_MESSAGE_ID];
/// What clients say, who may be mistaken.
const CHECKED: &[Name] = &[Name::KEYS, Name::UNIQ_KEY];

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
                let Some(lookup) = &rules.topic(topic).lookup else { continue };
                partition.notes.indexed |= lookup.key || mentioned(partition).any(WANTED);
                // A message is retried and asked about with whatever it came with.
                let given = !head.connection.is_internal() && rules.prefixes.kind(topic).is_none();
                if given && mentioned(partition).any(CHECKED) {
                    partition.refused = check(partition).err();
                }
            }
            next.call(Request::from_produce(head, produce)).await
        })
    }
}

/// Keys that nobody could ask for are refused.
fn check(partition: &ProducePartition) -> Result<(), Refusal> {
    let Some(records) = records(partition) else { return Ok(()) };
    for (place, record) in (0..).zip(records.iter().map_while(Result::ok)) {
        keys(&record, place)?;
        uniq_key(&record, place)?;
    }
    Ok(())
}
