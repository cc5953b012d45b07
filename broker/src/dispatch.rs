//! From an API key to the file of that name.

use std::future::Future;

use kafka_protocol::protocol::Decodable;
use krocket_stack::{BoxFuture, Error, Handler, Head, Message, Request, Response};

use crate::Broker;

impl Handler for Broker {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async move {
            #[allow(clippy::match_single_binding)]
            match request.head.api {
                // ApiKey::Metadata => answer(request, |head, message| api::metadata::handle(self, head, message)).await,
                _ => Err(Error::UnsupportedVersion { api: request.head.api, version: request.head.version }),
            }
        })
    }
}

/// Decodes the request, runs its API's function and wraps the answer.
#[allow(dead_code)]
async fn answer<M, R, F>(request: Request, handle: impl FnOnce(Head, M) -> F) -> Result<Response, Error>
where
    M: Decodable + Send + 'static,
    R: Message,
    F: Future<Output = R>,
{
    let (head, message) = request.into_message::<M>()?;
    Ok(Response::new(handle(head, message).await))
}
