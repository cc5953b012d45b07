//! Requests as traces: the spans of `krocket_stack::trace` go to a collector by OpenTelemetry's protocol (OTLP over HTTP,
//! protobuf). The cargo feature `otlp`.

#[cfg_attr(not(feature = "otlp"), path = "none.rs")]
mod otlp;

use tracing_subscriber::Layer;

pub use self::otlp::{Traces, check, start};

/// Takes part in logging.
pub type BoxLayer<S> = Box<dyn Layer<S> + Send + Sync>;
