//! What is told of decisions: counts of all, log lines of denials as long as there are not too many.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use krocket_stack::Connection;
use krocket_stack::security::{Operation, ResourceType};
use parking_lot::Mutex;
use prometheus::{IntCounter, register_int_counter_vec};

/// Most lines a window.
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);

struct Metrics {
    allowed: IntCounter,
    denied: IntCounter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let all = register_int_counter_vec!("krocket_authorizations_total", "Decisions by ACLs, by outcome", &["outcome"])
        .expect("the name is valid and registered once");
    Metrics { allowed: all.with_label_values(&["allowed"]), denied: all.with_label_values(&["denied"]) }
});

static LIMIT: Mutex<Option<Window>> = Mutex::new(None);

struct Window {
    since: Instant,
    lines: u32,
}

/// Shows the counts as zeros.
pub(super) fn register() {
    LazyLock::force(&METRICS);
}

/// Counts a decision and tells the log of a denial.
pub(super) fn count(allowed: bool, who: &Connection, operation: Operation, kind: ResourceType, name: &str) {
    if allowed {
        METRICS.allowed.inc();
        return;
    }
    METRICS.denied.inc();
    if let Some(unsaid) = may_tell(Instant::now()) {
        if unsaid > 0 {
            tracing::info!(target: "krocket::authorizer", "{unsaid} more were denied");
        }
        tracing::info!(
            target: "krocket::authorizer",
            principal = %who.principal(), host = %who.peer.ip(), ?operation, resource = ?kind, name,
            "denied"
        );
    }
}

/// Says whether a line may be written now, and how many were not before it.
fn may_tell(now: Instant) -> Option<u32> {
    let mut limit = LIMIT.lock();
    let window = limit.get_or_insert(Window { since: now, lines: 0 });
    let mut unsaid = 0;
    if now.duration_since(window.since) >= WINDOW {
        unsaid = window.lines.saturating_sub(LINES);
        *window = Window { since: now, lines: 0 };
    }
    window.lines = window.lines.saturating_add(1);
    (window.lines <= LINES).then_some(unsaid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_the_rest_is_counted() {
        // Far in the future, where no other test's window is.
        let start = Instant::now() + Duration::from_secs(1 << 20);
        let told = (0..LINES + 5).filter(|_| may_tell(start).is_some()).count();
        assert_eq!(told as u32, LINES);
        assert_eq!(may_tell(start + WINDOW), Some(5));
        assert_eq!(may_tell(start + WINDOW), Some(0));
        *LIMIT.lock() = None;
    }
}
