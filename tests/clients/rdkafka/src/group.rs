//! A group of two grows to three and shrinks again while records flow: none may be lost or come twice.
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cases::{Cases, number, until};
use crate::client::Record;

struct Seen {
    member: &'static str,
    partition: i32,
    value: Vec<u8>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    produced: HashSet<Vec<u8>>,
    error: Option<String>,
}

impl State {
    fn count(&self, member: &str, since: usize) -> usize {
        self.seen[since..].iter().filter(|s| s.member == member).count()
    }

    fn distinct(&self) -> HashSet<&[u8]> {
        self.seen.iter().map(|s| s.value.as_slice()).collect()
    }
}

impl Cases {
    pub fn group(&self, protocol: &str) -> Result<()> {
        let partitions = self.number("group", "partitions");
        let topic = self.new_topic(&format!("group-{protocol}"), partitions, &[])?;
        let state = Mutex::new(State::default());
        let lock = || state.lock().expect("no panic holds it");
        let stops: [AtomicBool; 3] = Default::default();
        let full = AtomicBool::new(false);
        let note = |result: Result<()>| {
            if let Err(error) = result {
                lock().error = Some(format!("{error:#}"));
            }
        };
        let wait = |what: &str, condition: &dyn Fn(&State) -> bool| {
            until(40, what, || match &*lock() {
                State { error: Some(error), .. } => bail!("{error}"),
                state => Ok(condition(state)),
            })
        };
        let each = self.number("group", "records_each");

        thread::scope(|scope| -> Result<()> {
            let start = |member: &'static str, stop| {
                let received = move |records: Vec<Record>| {
                    let seen = records.into_iter().map(|r| Seen {
                        member,
                        partition: r.partition,
                        value: r.value.unwrap_or_default(),
                    });
                    lock().seen.extend(seen);
                };
                let topic = &topic;
                scope.spawn(move || note(self.client.member(topic, topic, protocol, received, stop)))
            };
            let run = || {
                let a = start("a", &stops[0]);
                start("b", &stops[1]);
                let feeder = scope.spawn(|| note(self.feed(&topic, partitions, &state, &full)));
                wait("two members both get records", &|s| s.count("a", 0).min(s.count("b", 0)) >= each)?;
                start("c", &stops[2]);
                wait("the third member gets records", &|s| s.count("c", 0) >= each)?;
                stops[0].store(true, Ordering::Relaxed);
                a.join().ok().context("member a")?;
                let mark = lock().seen.len();
                wait("the other two take over", &|s| {
                    let found: HashSet<_> = s.seen[mark..].iter().map(|s| s.partition).collect();
                    found.len() == partitions && s.count("b", mark).min(s.count("c", mark)) > 0
                })?;
                full.store(true, Ordering::Relaxed);
                feeder.join().ok().context("the feeder")?;
                wait("every record is consumed", &|s| s.distinct().len() >= s.produced.len())
            };
            let result = run();
            full.store(true, Ordering::Relaxed);
            stops.iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
            result
        })?;

        let state = state.into_inner().expect("no panic holds it");
        if let Some(error) = &state.error {
            bail!("{error}");
        }
        let distinct = state.distinct();
        let lost = state.produced.iter().filter(|v| !distinct.contains(v.as_slice())).count();
        ensure!(lost == 0, "{lost} of {} records lost", state.produced.len());
        ensure!(
            state.seen.len() == distinct.len(),
            "{} records delivered, {} distinct",
            state.seen.len(),
            distinct.len()
        );
        let mut committed = 0;
        for p in 0..partitions {
            committed += self.client.committed(&topic, &topic, p as i32)?.unwrap_or(0);
        }
        ensure!(
            committed == state.produced.len() as i64,
            "committed offsets: {committed}, wanted {}",
            state.produced.len()
        );
        Ok(())
    }

    fn feed(&self, topic: &str, partitions: usize, state: &Mutex<State>, full: &AtomicBool) -> Result<()> {
        for batch in 0.. {
            let records: Vec<_> = (batch * 12..(batch + 1) * 12)
                .map(|i| Record { partition: (i % partitions) as i32, ..number(i) })
                .collect();
            self.client.produce(topic, &records, "none", false)?;
            state.lock().expect("no panic holds it").produced.extend(records.into_iter().filter_map(|r| r.value));
            if full.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(Duration::from_millis(self.number("group", "interval_ms") as u64 * 12));
        }
        Ok(())
    }
}
