//! The one trait that everything answering Kafka requests implements.

use std::future::Future;
use std::pin::Pin;

use crate::error::Error;
use crate::request::{Request, Response};

/// A boxed future: requests are batches, so one allocation each is noise.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers Kafka requests: the embedded broker, an upstream cluster, a layer wrapped round either.
///
/// The connection polls the future once before it reads its next request. What a handler does before its first wait
/// therefore happens in the order of the wire; idempotent producers with several requests in flight depend on that, so
/// Produce has to reach the log's queue without waiting.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. An error closes the client's connection.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>>;
}
