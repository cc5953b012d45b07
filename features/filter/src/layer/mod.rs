//! The layer that answers for views and lets everything else pass.

mod configs;
mod fetch;
mod metadata;
mod offsets;
mod produce;
mod topics;

use std::sync::Arc;

use krocket_protocol::ApiKey;
use krocket_stack::{BoxFuture, Error, Handler, Layer, Request, Response};

use crate::registry::Shared;

/// Outermost of the features: what it answers, no other sees.
pub struct FilterLayer(pub(crate) Arc<Shared>);

impl Layer for FilterLayer {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn wants(&self, api: ApiKey) -> bool {
        use ApiKey::{
            AlterConfigs, CreatePartitions, CreateTopics, DeleteRecords, DeleteTopics, DescribeTopicPartitions, Fetch,
            IncrementalAlterConfigs, ListOffsets, Metadata, OffsetForLeaderEpoch, Produce,
        };
        match api {
            Metadata | CreateTopics | IncrementalAlterConfigs | AlterConfigs => true,
            // Without views there is nothing to look for.
            Produce
            | Fetch
            | ListOffsets
            | OffsetForLeaderEpoch
            | DeleteRecords
            | DeleteTopics
            | CreatePartitions
            | DescribeTopicPartitions => !self.0.all().is_empty(),
            _ => false,
        }
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        let shared = &self.0;
        match request.head.api {
            // In the first poll, before anything is waited for: the order of the wire is kept.
            ApiKey::Produce => Box::pin(produce::call(shared, request, next)),
            ApiKey::Fetch => Box::pin(fetch::call(shared, request, next)),
            ApiKey::ListOffsets => Box::pin(offsets::list(shared, request, next)),
            ApiKey::OffsetForLeaderEpoch => Box::pin(offsets::for_leader_epoch(shared, request, next)),
            ApiKey::DeleteRecords => Box::pin(offsets::delete_records(shared, request, next)),
            ApiKey::Metadata => Box::pin(metadata::call(shared, request, next)),
            ApiKey::DescribeTopicPartitions => Box::pin(metadata::describe(shared, request, next)),
            ApiKey::CreateTopics => Box::pin(topics::create(shared, request, next)),
            ApiKey::CreatePartitions => Box::pin(topics::create_partitions(shared, request, next)),
            ApiKey::DeleteTopics => Box::pin(topics::delete(shared, request, next)),
            ApiKey::IncrementalAlterConfigs => Box::pin(configs::incremental(shared, request, next)),
            ApiKey::AlterConfigs => Box::pin(configs::replace(shared, request, next)),
            _ => next.call(request),
        }
    }
}
