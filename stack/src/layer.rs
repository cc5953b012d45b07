//! Layers and how they are stacked.

use std::sync::Arc;

use krocket_protocol::ApiKey;
use tracing::Instrument;

use crate::error::Error;
use crate::handler::{BoxFuture, Handler};
use crate::request::{Request, Response};
use crate::trace;

/// A handler that knows only the next one.
pub trait Layer: Send + Sync + 'static {
    /// For logs, metrics and traces.
    fn name(&self) -> &'static str;

    /// True for what [`Layer::call`] must see; everything else goes straight to the next handler, undecoded.
    fn wants(&self, api: ApiKey) -> bool;

    /// Answers the request, usually by way of `next`.
    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>>;
}

/// Builds the stack from the backend outwards.
#[derive(Clone)]
pub struct Stack(Arc<dyn Handler>);

impl Stack {
    /// The innermost handler.
    pub fn new(backend: Arc<dyn Handler>) -> Self {
        Stack(backend)
    }

    /// Wraps what is there so far.
    pub fn layer(self, layer: impl Layer) -> Self {
        Stack(Arc::new(Layered { layer, next: self.0 }))
    }

    /// The finished stack.
    pub fn build(self) -> Arc<dyn Handler> {
        self.0
    }
}

struct Layered<L> {
    layer: L,
    next: Arc<dyn Handler>,
}

impl<L: Layer> Handler for Layered<L> {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        if !self.layer.wants(request.head.api) {
            return self.next.call(request);
        }
        let step = trace::step(self.layer.name());
        let answer = self.layer.call(request, &*self.next);
        if step.is_disabled() { answer } else { Box::pin(answer.instrument(step)) }
    }
}
