//! read_committed consumers, and what they find wrong at once.

use std::io;
use std::sync::Arc;

use krocket_testkit::session::Session;
use parking_lot::Mutex;

use super::LISTS;
use super::checker::Fault;
use super::history::{History, Read, View};
use crate::client::fetch;
use crate::{PARTITIONS, World};

/// What all readers saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) view: Mutex<View>,
    pub(crate) faults: Mutex<Vec<Fault>>,
}

impl Seen {
    pub(crate) fn add(&self, read: &Read, history: &History) {
        let mut view = self.view.lock();
        let faults = history.with(|log| view.merge(read, log));
        self.faults.lock().extend(faults);
    }
}

/// Up to the last stable offset of now, or as far as it went; and the high watermark.
pub(crate) async fn read(
    session: &mut Session,
    partition: i32,
    from: i64,
    wait_ms: i32,
) -> (Read, Result<i64, io::Error>) {
    let mut read = Read { partition, from, to: from, records: Vec::new() };
    loop {
        let fetched = match fetch(session, LISTS, partition, read.to, wait_ms).await {
            Ok(fetched) => fetched,
            Err(error) => return (read, Err(error)),
        };
        let moved = std::mem::replace(&mut read.to, fetched.next) != fetched.next;
        for record in fetched.records {
            let number = |text: &str| text.parse().expect("a number");
            let key = record.key.as_deref().map(number).expect("a list");
            read.records.push((record.offset, key, record.value.parse().expect("an element")));
        }
        if read.to >= fetched.last_stable || !moved {
            return (read, Ok(fetched.high_watermark));
        }
    }
}

/// Reads on where it stopped, or all over again each time.
pub(crate) async fn run(again: bool, seen: Arc<Seen>, history: Arc<History>, mut world: World) {
    let mut offsets = [0; PARTITIONS as usize];
    loop {
        let (address, ending) = world.server().await;
        if ending {
            return;
        }
        let Ok(mut session) = Session::connect(address).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        'connected: while !world.is_ending() {
            for (partition, offset) in (0..).zip(offsets.iter_mut()) {
                let (read, end) = read(&mut session, partition, *offset, if again { 0 } else { 5 }).await;
                seen.add(&read, &history);
                if !again {
                    *offset = read.to;
                }
                if end.is_err() {
                    break 'connected;
                }
            }
            if again {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}
