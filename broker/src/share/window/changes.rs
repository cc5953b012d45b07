//! What of a window is written down, and the window that is read back.

use super::{Run, State, Window};

impl Window {
    /// A window as it was written down; what lies between the runs was never delivered.
    pub(in crate::share) fn restored(start: i64, runs: impl IntoIterator<Item = (i64, Run)>) -> Self {
        let mut window = Window { start_stored: start, ..Window::new(start) };
        for (first, run) in runs {
            window.stored.insert(first);
            if first < window.end {
                window.changed.insert(first);
            }
            if run.last < window.end {
                continue;
            }
            let first = first.max(window.end);
            if first > window.end {
                window.extend(first - 1, true);
            }
            window.end = run.last + 1;
            window.insert(first, run);
        }
        window.advance();
        window
    }

    /// What is to be written down: the start, if it moved, and runs by their first offset, `None` for one to forget.
    pub(in crate::share) fn take_changes(&mut self) -> (Option<i64>, Vec<(i64, Option<Run>)>) {
        let start = (self.start != self.start_stored).then_some(self.start);
        self.start_stored = self.start;
        let mut changes = Vec::with_capacity(self.changed.len());
        for first in std::mem::take(&mut self.changed) {
            match self.runs.get(&first).filter(|run| is_stored(run)) {
                Some(run) => {
                    self.stored.insert(first);
                    changes.push((first, Some(run.clone())));
                }
                None => {
                    if self.stored.remove(&first) {
                        changes.push((first, None));
                    }
                }
            }
        }
        (start, changes)
    }

    /// What was taken may not have been written down: it is among the next changes again.
    pub(in crate::share) fn write_again(&mut self, start: bool, firsts: impl IntoIterator<Item = i64>) {
        if start {
            self.start_stored = -1;
        }
        for first in firsts {
            // Whatever lies there: a row that has to go is deleted, one that never came costs a deletion.
            self.stored.insert(first);
            self.changed.insert(first);
        }
    }
}

/// A record that was never delivered follows from the log.
pub(super) fn is_stored(run: &Run) -> bool {
    run.count > 0 || !matches!(run.state, State::Available { .. })
}
