//! Features: layers between the wire and the backend, one file or folder each. None knows another, nor a backend.

pub mod identity;

pub use identity::Identity;
