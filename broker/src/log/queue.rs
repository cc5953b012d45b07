//! A queue that is emptied whole: one lock and at most one wake-up for a group of commands.

use parking_lot::{Condvar, Mutex};

/// Many pushers, one thread that takes all there is.
///
/// Unbounded: what waits here was admitted by the limits on requests in flight per connection, and blocking a pusher
/// would stop a runtime thread.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    waiting: bool,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { items: Vec::new(), waiting: false, closed: false };
        Queue { state: Mutex::new(state), filled: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Adds an item; gives it back when the queue is closed.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push(item);
        if std::mem::take(&mut state.waiting) {
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for items and moves all of them to the empty `into`. False when the queue is closed and empty.
    pub(super) fn take(&self, into: &mut Vec<T>) -> bool {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            state.waiting = true;
            self.filled.wait(&mut state);
        }
        state.waiting = false;
        std::mem::swap(&mut state.items, into);
        true
    }

    /// Lets nothing more in.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn keeps_the_order_and_ends_when_closed_and_empty() {
        let queue = Arc::new(Queue::default());
        let taker = std::thread::spawn({
            let queue = queue.clone();
            move || {
                let (mut all, mut some) = (Vec::new(), Vec::new());
                while queue.take(&mut some) {
                    all.append(&mut some);
                }
                all
            }
        });
        for n in 0..1000 {
            queue.push(n).expect("open");
        }
        queue.close();
        assert_eq!(taker.join().expect("no panic"), (0..1000).collect::<Vec<_>>());
        assert_eq!(queue.push(1), Err(1));
    }
}
