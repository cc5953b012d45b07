//! The order of things: the one place where layers are put round the backend.

use std::sync::Arc;

use krocket_features::Identity;
use krocket_stack::{Handler, Stack};

/// What a request passes, innermost first.
pub fn build(backend: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Stack::new(backend)
        // Keeps the promise tested that a request passes layers undecoded; features come here.
        .layer(Identity)
        .build()
}
