//! Certificates that change while krocket runs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Files, LOOK, Tls};

impl Tls {
    /// Follows the files until `stop`. Their bytes are read, since notices of change miss files that are replaced by
    /// rename, and Kubernetes, which swaps a symbolic link to the folder.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let (tls, before) = (self.clone(), seen);
            match tokio::task::spawn_blocking(move || tls.look(before)).await {
                Ok(now) => seen = now,
                Err(error) => {
                    tracing::error!(listener = self.listener, %error, "certificates are not followed any more");
                    return;
                }
            }
        }
    }

    /// Takes a change over when it is seen twice: certificate and key are two files, and one is written first.
    fn look(&self, seen: Option<Result<Files, String>>) -> Option<Result<Files, String>> {
        let now = Files::read(&self.files).map_err(|error| error.to_string());
        if now.as_ref().is_ok_and(|files| *files == *self.loaded.lock()) {
            return None;
        }
        let known = seen.as_ref() == Some(&now);
        if known && !self.refused(&now) {
            self.take(&now);
        }
        Some(now)
    }

    /// True when this state of the files was already complained about.
    fn refused(&self, now: &Result<Files, String>) -> bool {
        self.refused.lock().as_ref() == Some(now)
    }

    fn take(&self, now: &Result<Files, String>) {
        let files = now.as_ref().map_err(String::clone);
        let loaded = files.and_then(|files| Ok((files, files.config(&self.files).map_err(|error| error.to_string())?)));
        match loaded {
            Ok((files, (config, not_after))) => {
                self.current.store(Arc::new(config));
                *self.loaded.lock() = files.clone();
                *self.refused.lock() = None;
                self.tell_expiry(not_after);
                tracing::info!(listener = self.listener, "new certificates are in use");
            }
            Err(error) => {
                *self.refused.lock() = Some(now.clone());
                tracing::error!(listener = self.listener, %error, "the changed certificates are refused, the old ones stay");
            }
        }
    }
}
