//! Segment files: their names, their header, and which there are.
//!
//! `log/{base position:020}-{file id:010}.seg`. The name repeats what the header says, so a damaged header loses
//! nothing. An appended segment is a run of positions: the frame at position p lies at `p - base` after the header.
//! A cleaned one says in its header which range of positions it stands for.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::op::{Location, Position};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER_LEN: u64 = 48;
const MAGIC: &[u8; 8] = b"krocket\n";
const VERSION: u32 = 2;
/// Files that readers keep open; more are opened again when they are read.
const MAX_OPEN: usize = 256;

/// One segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) id: u32,
    /// Position where it begins.
    pub(crate) base: Position,
    /// For a cleaned segment, the end of the positions that it stands for.
    pub(crate) cleaned_end: Option<Position>,
}

impl Segment {
    pub(crate) fn file_name(&self) -> String {
        format!("{:020}-{:010}.seg", self.base, self.id)
    }

    /// Base and id out of a file name.
    pub(crate) fn parse_name(name: &str) -> Option<(Position, u32)> {
        let (base, id) = name.strip_suffix(".seg")?.split_once('-')?;
        let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(base, 20) && digits(id, 10)).then(|| Some((base.parse().ok()?, id.parse().ok()?)))?
    }

    /// The position of what lies at an offset of the file and is no frame; `behind` is where the last frame before it ended.
    pub(crate) fn position_of_damage(&self, offset: u64, behind: Position) -> Position {
        match self.cleaned_end {
            Some(_) => behind,
            None => self.base + offset - SEGMENT_HEADER_LEN,
        }
    }

    pub(crate) fn header(&self, log_id: u64) -> [u8; SEGMENT_HEADER_LEN as usize] {
        let mut header = [0; SEGMENT_HEADER_LEN as usize];
        header[0..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&self.id.to_le_bytes());
        header[16..24].copy_from_slice(&log_id.to_le_bytes());
        header[24..32].copy_from_slice(&self.base.to_le_bytes());
        header[32..40].copy_from_slice(&self.cleaned_end.unwrap_or(0).to_le_bytes());
        let crc = crc32c::crc32c(&header[..44]);
        header[44..48].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The segment and the log's id, or nothing if the header is damaged.
    pub(crate) fn parse_header(header: &[u8; SEGMENT_HEADER_LEN as usize]) -> Option<(Segment, u64)> {
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &header[0..8] != MAGIC || u32_at(8) != VERSION || crc32c::crc32c(&header[..44]) != u32_at(44) {
            return None;
        }
        let cleaned_end = Some(u64_at(32)).filter(|end| *end != 0);
        Some((Segment { id: u32_at(12), base: u64_at(24), cleaned_end }, u64_at(16)))
    }
}

/// The segments that make up the log, shared by all parts of the store.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the log is made of.
    by_base: BTreeMap<Position, Segment>,
    /// What readers may ask for: during a cleaning, both the old and the new.
    by_id: HashMap<u32, Segment>,
    open: HashMap<u32, Arc<File>>,
    /// Large batches that were read and found sound: a bit for each [`SOUND_STEP`] in which one begins.
    sound: HashMap<u32, Vec<u64>>,
    next_id: u32,
}

impl State {
    fn remove(&mut self, segment: &Segment) {
        if self.by_base.get(&segment.base).is_some_and(|present| present.id == segment.id) {
            self.by_base.remove(&segment.base);
        }
        self.by_id.remove(&segment.id);
        self.open.remove(&segment.id);
        self.sound.remove(&segment.id);
    }
}

/// No two batches of this length or more begin in the same step.
pub(crate) const SOUND_STEP: u32 = 8 << 10;

impl Segments {
    pub(crate) fn new(dir: PathBuf, segments: impl IntoIterator<Item = Segment>, next_id: u32) -> Self {
        let this = Segments { dir, state: RwLock::new(State { next_id, ..State::default() }) };
        for segment in segments {
            this.insert(segment, None);
        }
        this
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, segment: &Segment) -> PathBuf {
        self.dir.join(segment.file_name())
    }

    /// An id that no segment had.
    pub(crate) fn next_id(&self) -> u32 {
        let mut state = self.state.write();
        state.next_id += 1;
        state.next_id - 1
    }

    pub(crate) fn insert(&self, segment: Segment, file: Option<Arc<File>>) {
        self.offer(segment, file);
        self.state.write().by_base.insert(segment.base, segment);
    }

    /// Lets readers find a segment that is not part of the log.
    pub(crate) fn offer(&self, segment: Segment, file: Option<Arc<File>>) {
        let mut state = self.state.write();
        state.next_id = state.next_id.max(segment.id + 1);
        state.by_id.insert(segment.id, segment);
        if let Some(file) = file {
            state.open.insert(segment.id, file);
        }
    }

    /// Puts a cleaned segment in the place of others. Readers of the old ones get `Gone`; those who hold a file may
    /// finish.
    pub(crate) fn replace(&self, old: &[Segment], new: Segment) {
        let mut state = self.state.write();
        for segment in old {
            state.remove(segment);
        }
        state.by_base.insert(new.base, new);
    }

    /// Forgets a segment that the log does not go on with.
    pub(crate) fn remove(&self, segment: &Segment) {
        self.state.write().remove(segment);
    }

    /// Takes back what was offered.
    pub(crate) fn withdraw(&self, id: u32) {
        let mut state = self.state.write();
        state.by_id.remove(&id);
        state.open.remove(&id);
        state.sound.remove(&id);
    }

    /// True when the large batch there was found sound before.
    pub(crate) fn is_sound(&self, location: Location) -> bool {
        let (word, bit) = sound_bit(location);
        let state = self.state.read();
        state.sound.get(&location.file).and_then(|bits| bits.get(word)).is_some_and(|bits| bits & bit != 0)
    }

    /// Remembers that the large batch there is sound.
    pub(crate) fn set_sound(&self, location: Location) {
        let (word, bit) = sound_bit(location);
        let mut state = self.state.write();
        if !state.by_id.contains_key(&location.file) {
            return;
        }
        let bits = state.sound.entry(location.file).or_default();
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= bit;
    }

    /// In order of position.
    pub(crate) fn list(&self) -> Vec<Segment> {
        self.state.read().by_base.values().copied().collect()
    }

    /// The segment that holds a position.
    pub(crate) fn at(&self, position: Position) -> Option<Segment> {
        self.state.read().by_base.range(..=position).next_back().map(|(_, segment)| *segment)
    }

    pub(crate) fn get(&self, id: u32) -> Option<Segment> {
        self.state.read().by_id.get(&id).copied()
    }

    /// The open file of a segment, `None` when there is no such segment (any more).
    pub(crate) fn file(&self, id: u32) -> io::Result<Option<Arc<File>>> {
        if let Some(file) = self.state.read().open.get(&id) {
            return Ok(Some(file.clone()));
        }
        let Some(segment) = self.get(id) else { return Ok(None) };
        let file = match File::open(self.path(&segment)) {
            Ok(file) => Arc::new(file),
            // Cleaned away since the look-up.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.get(id).is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut state = self.state.write();
        if !state.by_id.contains_key(&id) {
            return Ok(None);
        }
        if state.open.len() >= MAX_OPEN
            && let Some(oldest) = state.open.keys().min().copied()
        {
            state.open.remove(&oldest);
        }
        state.open.insert(id, file.clone());
        Ok(Some(file))
    }
}

/// Word and bit of the step in which a batch begins.
fn sound_bit(location: Location) -> (usize, u64) {
    let step = location.offset / SOUND_STEP;
    ((step / 64) as usize, 1 << (step % 64))
}
