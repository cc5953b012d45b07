//! Certificates that change while krocket runs.

use std::sync::Arc;

use krocket_config::watch;
use tokio_util::sync::CancellationToken;

use super::{Files, Tls};

impl Tls {
    /// Follows the files until `stop`; what cannot be used changes nothing.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(watch::follow(move || self.look())).await;
    }

    fn look(&self) {
        let Some(contents) = self.watch.lock().look() else { return };
        match Files::from(&self.files, contents).and_then(|files| files.config(&self.files)) {
            Ok((config, not_after)) => {
                self.current.store(Arc::new(config));
                self.tell_expiry(not_after);
                tracing::info!(listener = self.listener, "new certificates are in use");
            }
            Err(error) => {
                tracing::error!(listener = self.listener, %error, "the changed certificates are refused, the old ones stay");
            }
        }
    }
}
