//! A connection from which nothing is read for a while (KIP-219).

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Muted, Throttle};

/// Whether a connection is held up now.
#[derive(Default)]
pub(crate) struct Mute(Option<(Pin<Box<Sleep>>, Muted)>);

impl Mute {
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// From now on, unless it lasts longer already.
    pub(crate) fn begin(&mut self, throttle: Throttle) {
        let end = Instant::now() + throttle.delay;
        match &mut self.0 {
            Some((sleep, _)) if sleep.deadline() >= end => {}
            muted => *muted = Some((Box::pin(sleep_until(end)), throttle.mute())),
        }
    }

    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// Waits for the end; for ever when it is off.
    pub(crate) async fn over(&mut self) {
        match &mut self.0 {
            Some((sleep, _)) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}
