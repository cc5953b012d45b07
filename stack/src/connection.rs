//! Who is asking.

use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::principal::Principal;

/// One client connection, shared by all of its requests.
#[derive(Debug)]
pub struct Connection {
    /// Unique while the process runs.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener that accepted it, as named in the configuration.
    pub listener: String,
    /// Client software name and version (KIP-511), once ApiVersions told them.
    pub software: OnceLock<(String, String)>,
    /// Who proved to be behind it, once that is known; it does not change afterwards (KIP-368).
    pub authenticated: OnceLock<Principal>,
}

impl Connection {
    /// True for one without a socket: the request is krocket's own.
    pub fn is_internal(&self) -> bool {
        self.id == 0
    }

    /// Who is asking: `User:ANONYMOUS` where nobody had to say.
    pub fn principal(&self) -> &Principal {
        self.authenticated.get().unwrap_or(&Principal::ANONYMOUS)
    }

    /// A connection without a socket, for a feature's own requests and for tests.
    pub fn internal(name: &str) -> Self {
        Connection {
            id: 0,
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            listener: name.to_owned(),
            software: OnceLock::new(),
            authenticated: OnceLock::new(),
        }
    }
}
