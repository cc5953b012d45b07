//! Listeners, TLS and SASL, as clients meet them: who comes in, who does not, and what they are told.

mod acls;
mod carry;
mod http;
mod sasl;
mod sasl_client;
mod tls;
mod tokens;
mod world;
