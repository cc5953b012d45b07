//! One file per Kafka API: what the embedded broker does for it.
