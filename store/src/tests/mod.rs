//! The store as a whole, on real files.

mod cleaning;
mod damage;
mod faults;
mod model;
mod simple;
mod speed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use krocket_protocol::records::batch;

use crate::*;

/// A batch of `count` offsets whose body is `body_len` bytes.
pub(super) fn batch(count: i32, body_len: usize, seed: u8) -> Bytes {
    let mut bytes = vec![seed; batch::HEADER_LEN + body_len];
    let length = (bytes.len() - batch::LENGTH_OVERHEAD) as i32;
    bytes[0..61].fill(0);
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[35..43].copy_from_slice(&(1000 + i64::from(seed)).to_be_bytes());
    bytes[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[batch::CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

pub(super) fn new_batch(partition: u32, base_offset: i64, batch: Bytes) -> NewBatch<'static> {
    NewBatch {
        partition,
        base_offset,
        leader_epoch: 7,
        flags: 0,
        running_max_timestamp: 1000,
        cumulative_bytes: 1,
        marks: b"",
        batch,
    }
}

/// A folder whose syncs cost nothing, where there is one: these tests open thousands of stores.
pub(super) fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("tempdir")
}

/// Small segments, no big buffers.
pub(super) fn small() -> Options {
    Options { segment_bytes: 4096, index_cache_bytes: 1 << 20, index_memtable_bytes: 1 << 20, ..Options::default() }
}

/// What every user of the store does with ops.
pub(super) fn apply(at: FrameAt, ops: &[Op<'_>], rows: &mut Rows) -> Result<(), BoxError> {
    for op in ops {
        match op {
            Op::Batch(batch) => rows.put_batch(batch.partition, &BatchRow::of(batch))?,
            Op::Put { table, key, value } => rows.put(at.position, *table, key, value)?,
            Op::Delete { table, key } => rows.delete(*table, key)?,
            Op::Drop { partition, first_offset, last_offset } => {
                rows.drop_batches(*partition, *first_offset, *last_offset)?;
            }
        }
    }
    Ok(())
}

pub(super) fn open_with(dir: &Path, options: Options) -> Opened {
    open(dir, options, &mut apply).expect("open")
}

pub(super) fn open_small(dir: &Path) -> Opened {
    open_with(dir, small())
}

/// Appends one frame and puts it into the index, as the live path does.
pub(super) fn append(store: &mut Opened, mut builder: FrameBuilder, ops: &[(u32, i64, Bytes)]) -> Appended {
    for (partition, base_offset, bytes) in ops {
        builder.batch(new_batch(*partition, *base_offset, bytes.clone()));
    }
    let mut frames = [builder.build().expect("frame")];
    let appended = store.appender.append(&mut frames).expect("append").remove(0);
    let mut rows = store.index.rows();
    for ((partition, base_offset, bytes), location) in ops.iter().zip(&appended.batches) {
        let mut header = batch::BatchHeader::read(bytes).expect("header");
        (header.base_offset, header.leader_epoch) = (*base_offset, 7);
        rows.put_batch(*partition, &BatchRow::new(&header, *location, 1000, 1, 0, b"")).expect("row");
    }
    rows.commit(appended.end).expect("commit");
    appended
}

/// The batch as the log should give it back.
pub(super) fn patched(bytes: &Bytes, base_offset: i64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    batch::patch(&mut bytes, base_offset, 7);
    bytes
}

/// The data folder as a killed process leaves it: a clean close would flush the index.
pub(super) fn killed(dir: &Path) -> tempfile::TempDir {
    // RocksDB writes and removes files of its own meanwhile; a kill leaves those of one moment.
    let attempt = || -> std::io::Result<Option<tempfile::TempDir>> {
        let (image, files) = (tempdir(), files(dir)?);
        for file in files.keys() {
            let to = image.path().join(file);
            std::fs::create_dir_all(to.parent().expect("within the image"))?;
            std::fs::copy(dir.join(file), to)?;
        }
        Ok((self::files(dir)? == files).then_some(image))
    };
    loop {
        match attempt() {
            Ok(Some(image)) => return image,
            Ok(None) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("copy: {error}"),
        }
    }
}

/// Files in a folder and those within it, by their path in it, with their lengths.
fn files(dir: &Path) -> std::io::Result<BTreeMap<PathBuf, u64>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if entry.file_type()?.is_dir() {
            files.extend(self::files(&entry.path())?.into_iter().map(|(file, len)| (name.join(file), len)));
        } else {
            files.insert(name, entry.metadata()?.len());
        }
    }
    Ok(files)
}
