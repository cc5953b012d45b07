//! Where the server is, and clients that go on whenever there is one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::session::Session;

/// The server that there is now, if any. It ends when nobody tells any more.
#[derive(Clone)]
pub(crate) struct World {
    told: watch::Receiver<Option<SocketAddr>>,
    /// Whether this client has met what was told last.
    met: bool,
}

impl World {
    /// With who tells.
    pub(crate) fn new(address: SocketAddr) -> (watch::Sender<Option<SocketAddr>>, Self) {
        let (sender, told) = watch::channel(Some(address));
        (sender, World { told, met: false })
    }

    /// Whether the server is still the one that was met.
    pub(crate) fn is_same(&self) -> bool {
        matches!(self.told.has_changed(), Ok(false))
    }

    /// A session with the next server, once it is there; `None` when there will be none.
    pub(crate) async fn next_life(&mut self) -> Option<Session> {
        loop {
            if self.met {
                self.told.changed().await.ok()?;
            }
            let address = self.told.wait_for(Option::is_some).await.map(|address| *address).ok()?;
            self.met = true;
            if let Some(address) = address
                && let Ok(session) = Session::connect(address).await
            {
                return Some(session);
            }
        }
    }

    /// Whoever does one thing after the other.
    pub(crate) fn steps(self, pause: Duration) -> Steps {
        Steps { world: self, pause, session: None }
    }
}

/// One step after the other, with a pause between them.
pub(crate) struct Steps {
    world: World,
    pause: Duration,
    session: Option<Session>,
}

impl Steps {
    /// The session for the next step: after one that failed, and when the server has gone, with the next server.
    pub(crate) async fn next(&mut self, last: io::Result<()>) -> Option<&mut Session> {
        if last.is_ok() && self.session.is_some() && !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        if last.is_err() || !self.world.is_same() {
            self.session = None;
        }
        if self.session.is_none() {
            self.session = Some(self.world.next_life().await?);
        }
        self.session.as_mut()
    }
}
