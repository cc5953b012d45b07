//! Random histories against maps in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Batches of (partition, offsets, body length), one frame each, in one append.
    Append(Vec<(u32, i32, usize)>),
    Put(u8, usize),
    Delete(u8),
    /// Drops this part of a partition's offsets from the front.
    DropFront(u32, f64),
    /// Replaces one of the partition's batches by a smaller one.
    Replace(u32, usize),
    Sync,
    FlushIndex,
    Clean(f64),
    Close,
    Kill,
    KillWithoutIndex,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = prop::collection::vec((0..4u32, 1..5i32, 0..1500usize), 1..6).prop_map(Step::Append);
    let step = prop_oneof![
        12 => append,
        4 => (0..6u8, 0..300usize).prop_map(|(key, len)| Step::Put(key, len)),
        2 => (0..6u8).prop_map(Step::Delete),
        3 => (0..4u32, 0.0..1.0).prop_map(|(partition, part)| Step::DropFront(partition, part)),
        4 => (0..4u32, 0..100usize).prop_map(|(partition, at)| Step::Replace(partition, at)),
        1 => Just(Step::Sync),
        1 => Just(Step::FlushIndex),
        2 => (0.05..0.6).prop_map(Step::Clean),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => Just(Step::KillWithoutIndex),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Default)]
struct Model {
    batches: BTreeMap<(u32, i64), (i32, Bytes)>,
    keys: BTreeMap<u8, Vec<u8>>,
    ends: BTreeMap<u32, i64>,
    serial: u8,
}

impl Model {
    fn check(&self, store: &Opened) {
        for partition in 0..4 {
            let rows: Vec<_> = store.index.batches(partition, 0).map(|row| row.expect("row")).collect();
            let expected: Vec<_> = self.batches.range((partition, 0)..(partition + 1, 0)).collect();
            assert_eq!(rows.len(), expected.len(), "partition {partition}");
            for (row, ((_, base_offset), (count, bytes))) in rows.iter().zip(expected) {
                assert_eq!((row.base_offset, row.last_offset), (*base_offset, base_offset + i64::from(*count) - 1));
                assert_eq!(store.reader.read(row.location).expect("read"), patched(bytes, *base_offset));
            }
        }
        let keys: BTreeMap<u8, Vec<u8>> =
            store.index.scan(1, b"").map(|row| row.expect("row")).map(|(k, v)| (k[0], v)).collect();
        assert_eq!(keys, self.keys);
    }

    /// Appends frames and applies them through the same code as replay does.
    fn write(&mut self, store: &mut Opened, builders: Vec<FrameBuilder>, ops: &[Vec<Op<'_>>]) {
        let mut frames: Vec<Frame> = builders.into_iter().map(|mut builder| builder.build().expect("frame")).collect();
        let appended = store.appender.append(&mut frames).expect("append");
        let mut rows = store.index.rows();
        for (appended, ops) in appended.iter().zip(ops) {
            let mut locations = appended.batches.iter();
            let ops: Vec<Op<'_>> = ops
                .iter()
                .map(|op| match op {
                    Op::Batch(batch) => Op::Batch(BatchOp { location: *locations.next().expect("location"), ..*batch }),
                    op => *op,
                })
                .collect();
            apply(FrameAt { position: appended.position, end: appended.end }, &ops, &mut rows).expect("apply");
        }
        rows.commit(appended.last().expect("frames").end).expect("commit");
    }

    fn batch(
        &mut self,
        partition: u32,
        base_offset: i64,
        count: i32,
        body_len: usize,
        flags: u8,
    ) -> (FrameBuilder, BatchOp<'static>) {
        self.serial = self.serial.wrapping_add(1);
        let bytes = batch(count, body_len, self.serial);
        let mut builder = FrameBuilder::new();
        builder.batch(NewBatch { flags, ..new_batch(partition, base_offset, bytes.clone()) });
        let mut header = batch::BatchHeader::read(&bytes).expect("header");
        (header.base_offset, header.leader_epoch) = (base_offset, 7);
        self.batches.insert((partition, base_offset), (count, bytes));
        let location = Location { file: 0, offset: 0, len: 0 };
        let (running_max_timestamp, cumulative_bytes) = (1000, 1);
        let op = BatchOp {
            partition,
            flags,
            running_max_timestamp,
            cumulative_bytes,
            marks: b"",
            header,
            location,
            bytes: b"",
        };
        (builder, op)
    }

    fn run(&mut self, store: &mut Opened, step: &Step) {
        match step {
            Step::Append(batches) => {
                let (mut builders, mut ops) = (Vec::new(), Vec::new());
                for (partition, count, body_len) in batches {
                    let base_offset = *self.ends.entry(*partition).or_default();
                    self.ends.insert(*partition, base_offset + i64::from(*count));
                    let (builder, op) = self.batch(*partition, base_offset, *count, *body_len, 0);
                    builders.push(builder);
                    ops.push(vec![Op::Batch(op)]);
                }
                self.write(store, builders, &ops);
            }
            Step::Put(key, len) => {
                self.serial = self.serial.wrapping_add(1);
                let value = vec![self.serial; *len];
                let mut builder = FrameBuilder::new();
                builder.put(1, &[*key], &value);
                self.write(store, vec![builder], &[vec![Op::Put { table: 1, key: &[*key], value: &value }]]);
                self.keys.insert(*key, value);
            }
            Step::Delete(key) => {
                let mut builder = FrameBuilder::new();
                builder.delete(1, &[*key]);
                self.write(store, vec![builder], &[vec![Op::Delete { table: 1, key: &[*key] }]]);
                self.keys.remove(key);
            }
            Step::DropFront(partition, part) => {
                let last_offset = (self.ends.get(partition).copied().unwrap_or(0) as f64 * part) as i64;
                let mut builder = FrameBuilder::new();
                builder.drop_batches(*partition, 0, last_offset);
                let op = Op::Drop { partition: *partition, first_offset: 0, last_offset };
                self.write(store, vec![builder], &[vec![op]]);
                self.batches
                    .retain(|(of, base), (count, _)| of != partition || base + i64::from(*count) - 1 > last_offset);
            }
            Step::Replace(partition, at) => {
                let there: Vec<_> = self
                    .batches
                    .range((*partition, 0)..(partition + 1, 0))
                    .map(|((_, base), (count, _))| (*base, *count))
                    .collect();
                if let Some((base_offset, count)) = there.get(at % there.len().max(1)) {
                    let (builder, op) = self.batch(*partition, *base_offset, *count, 5, REPLACEMENT);
                    self.write(store, vec![builder], &[vec![Op::Batch(op)]]);
                }
            }
            Step::Sync => assert_eq!(store.syncer.sync().expect("sync"), store.appender.end()),
            Step::FlushIndex => store.index.flush().expect("flush"),
            Step::Clean(ratio) => {
                for victim in store.cleaner.victims(*ratio) {
                    store.cleaner.rewrite(&victim, &mut |_| {}).expect("rewrite");
                }
            }
            Step::Close | Step::Kill | Step::KillWithoutIndex => {}
        }
    }
}

/// Replaces and drops batches at every step of a cleaning: rows that moved on are not moved back.
#[test]
fn changes_during_a_cleaning_win() {
    for seed in 0..40usize {
        let dir = tempdir();
        let mut store = open_small(dir.path());
        let mut model = Model::default();
        for _ in 0..30 {
            model.run(&mut store, &Step::Append(vec![(0, 1, 200), (1, 1, 300), (2, 1, 100)]));
        }
        model.run(&mut store, &Step::DropFront(1, 0.9));
        let cleaner = store.cleaner.clone();
        let mut steps = 0;
        for victim in cleaner.victims(0.2) {
            let cleaned = cleaner.rewrite(&victim, &mut |_| {
                steps += 1;
                match (steps * 7 + seed) % 5 {
                    0 | 1 => model.run(&mut store, &Step::Replace(0, steps * 13 + seed)),
                    2 => model.run(&mut store, &Step::Replace(2, steps * 17 + seed)),
                    3 => model.run(&mut store, &Step::DropFront(2, (steps + seed) as f64 / 400.0)),
                    _ => model.run(&mut store, &Step::Put(3, 10)),
                }
                model.check(&store);
            });
            assert!(!cleaned.expect("rewrite").skipped);
        }
        assert!(steps > 20);
        for lost in [false, true] {
            let image = killed(dir.path());
            if lost {
                std::fs::remove_dir_all(image.path().join("index")).expect("remove");
            }
            model.check(&open_small(image.path()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_back(steps in steps()) {
        let mut dir = tempdir();
        let mut store = open_small(dir.path());
        let mut model = Model::default();
        for step in &steps {
            model.run(&mut store, step);
            match step {
                Step::Close => {
                    drop(store);
                    store = open_small(dir.path());
                    assert_eq!(store.report.replayed_frames, 0);
                }
                Step::Kill | Step::KillWithoutIndex => {
                    let image = killed(dir.path());
                    if matches!(step, Step::KillWithoutIndex) {
                        std::fs::remove_dir_all(image.path().join("index")).expect("remove");
                    }
                    drop(store);
                    store = open_small(image.path());
                    dir = image;
                }
                _ => {}
            }
            assert_eq!((&store.report.truncated, &store.report.damaged), (&None, &Vec::new()));
            model.check(&store);
        }
        drop(store);
        std::fs::remove_dir_all(dir.path().join("index")).expect("remove");
        model.check(&open_small(dir.path()));
    }

    #[test]
    fn no_bytes_make_the_scan_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0..4000usize) {
        let dir = tempdir();
        let mut store = open_small(dir.path());
        let mut model = Model::default();
        model.run(&mut store, &Step::Append(vec![(0, 1, 500), (1, 2, 900), (2, 1, 700)]));
        model.run(&mut store, &Step::Put(1, 100));
        drop(store);
        std::fs::remove_dir_all(dir.path().join("index")).expect("remove");
        let file = std::fs::read_dir(dir.path().join("log")).expect("list").next().expect("a file").expect("entry").path();
        let mut log = std::fs::read(&file).expect("read");
        let at = at.min(log.len());
        let end = (at + bytes.len()).min(log.len());
        log.splice(at..end, bytes);
        std::fs::write(&file, log).expect("write");
        let store = open_small(dir.path());
        for row in (0..4).flat_map(|partition| store.index.batches(partition, 0)) {
            let row = row.expect("row");
            assert!(model.batches.iter().any(|((_, base_offset), (_, bytes))| {
                store.reader.read(row.location).expect("read") == patched(bytes, *base_offset)
            }));
        }
    }
}
