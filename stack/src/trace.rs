//! Steps of a traced request, as spans of `tracing`.
//!
//! A request that is traced runs in a span of [`TARGET`], its root. What is a step of one becomes a child of the span it
//! runs in; of a request that is not traced nothing is made.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Span;
use tracing::instrument::{Instrument, Instrumented};

/// Spans that are steps of a trace have it, and nothing else has.
pub const TARGET: &str = "krocket_traces";

/// Where nobody collects traces, nobody looks for the span it runs in.
static ON: AtomicBool = AtomicBool::new(false);

/// From now on there may be traces.
pub fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

/// A step of the request that is being traced here; disabled where none is.
pub fn step(name: &'static str) -> Span {
    if !ON.load(Ordering::Relaxed) || Span::current().is_none() {
        return Span::none();
    }
    tracing::trace_span!(target: TARGET, "step", otel.name = name)
}

/// Work that is a step of a request.
pub fn traced<F: Future>(name: &'static str, work: F) -> Instrumented<F> {
    work.instrument(step(name))
}
