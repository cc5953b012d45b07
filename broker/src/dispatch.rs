//! From an API key to the file of that name.

use std::future::Future;

use kafka_protocol::protocol::Decodable;
use krocket_protocol::ApiKey;
use krocket_stack::{BoxFuture, Error, Handler, Head, Message, Request, Response};

use crate::{Broker, api};

impl Handler for Broker {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async move {
            match request.head.api {
                ApiKey::Produce => api::produce::handle(self, request).await,
                ApiKey::Fetch => api::fetch::handle(self, request).await,
                ApiKey::ListOffsets => answer(request, |head, m| api::list_offsets::handle(self, head, m)).await,
                ApiKey::DeleteRecords => answer(request, |head, m| api::delete_records::handle(self, head, m)).await,
                ApiKey::InitProducerId => answer(request, |head, m| api::init_producer_id::handle(self, head, m)).await,
                ApiKey::OffsetForLeaderEpoch => {
                    answer(request, |head, m| api::offset_for_leader_epoch::handle(self, head, m)).await
                }
                ApiKey::DescribeProducers => {
                    answer(request, |head, m| api::describe_producers::handle(self, head, m)).await
                }
                _ => Err(Error::UnsupportedVersion { api: request.head.api, version: request.head.version }),
            }
        })
    }
}

/// Decodes the request, runs its API's function and wraps the answer.
async fn answer<M, R, F>(request: Request, handle: impl FnOnce(Head, M) -> F) -> Result<Response, Error>
where
    M: Decodable + Send + 'static,
    R: Message,
    F: Future<Output = R>,
{
    let (head, message) = request.into_message::<M>()?;
    Ok(Response::new(handle(head, message).await))
}
