//! Reads a source's records once and writes down which of them a view shows.

use krocket_features::headers::MAX_DECOMPRESSED;
use krocket_protocol::records::batch::{HEADER_LEN, NO_TIMESTAMP};
use krocket_protocol::records::{BatchHeader, Codec, Records};
use krocket_stack::ledger::{StoredBatch, tables};
use krocket_stack::{Ledger, LedgerError, Row};

use crate::expression::Expression;
use crate::metrics::METRICS;
use crate::row::{Match, Matches, Progress, key, offset_in};
use crate::view::{Part, Seen, State, View};

/// Bytes of the source that are read at a time.
const READ_BYTES: usize = 4 << 20;
/// Rows that are removed at a time.
const REMOVED_ROWS: usize = 10_000;

/// Does one step of a partition's work; true when there is more. Blocks on the disk.
pub(crate) fn step(ledger: &dyn Ledger, view: &View, filter: &Expression, part: &Part) -> Result<bool, LedgerError> {
    let mut state = part.state.borrow().clone();
    let Some(source) = ledger.partition(part.source) else { return Ok(false) };
    // A source that ends before what was indexed lost records in a crash that nobody was promised.
    if !state.ready || state.progress.next > source.end.max(source.log_start) {
        let (removed, more) = rows_before(ledger, part, i64::MAX)?;
        let progress = Progress::start(part.source);
        ledger.derive(with_progress(removed, view, part, &progress))?;
        part.publish(State { ready: !more, caught_up: false, progress });
        return Ok(true);
    }
    if let (removed, more) = rows_before(ledger, part, source.log_start)?
        && !removed.is_empty()
    {
        ledger.derive(removed)?;
        if more {
            return Ok(true);
        }
    }
    state.progress.next = state.progress.next.max(source.log_start);
    let batches = match state.progress.next < source.end {
        true => ledger.batches(part.source, state.progress.next, READ_BYTES)?,
        false => Vec::new(),
    };
    if batches.is_empty() {
        state.caught_up = true;
        part.publish(state);
        return Ok(false);
    }
    let (mut rows, mut evaluated, before) = (Vec::new(), 0, state.progress.matched);
    let mut decided = false;
    for batch in &batches {
        let Ok(header) = BatchHeader::read(&batch.batch) else {
            return Err(LedgerError(format!("a batch of partition {} has no header", part.source)));
        };
        state.progress.next = state.progress.next.max(header.last_offset() + 1);
        decided |= header.is_control();
        let (seen, matches) = evaluate(batch, &header, filter);
        evaluated += seen;
        let Some(matches) = matches else { continue };
        state.progress.matched += matches.records.len() as u64;
        state.progress.end = matches.last_offset() + 1;
        state.progress.max_timestamp = state.progress.max_timestamp.max(matches.max_timestamp);
        rows.push(Row::put(tables::MATCHES, &key(part.id, matches.last_offset())[..], matches.encode()));
    }
    let found = state.progress.matched - before;
    state.caught_up |= state.progress.next >= source.end;
    ledger.derive(with_progress(rows, view, part, &state.progress))?;
    part.publish(state);
    if decided {
        // Matches that were there before may be seen from now on.
        part.end.send_modify(|_| ());
    }
    METRICS.evaluated.with_label_values(&[view.name.as_str()]).inc_by(evaluated);
    METRICS.matched.with_label_values(&[view.name.as_str()]).inc_by(found);
    Ok(true)
}

fn with_progress(mut rows: Vec<Row>, view: &View, part: &Part, progress: &Progress) -> Vec<Row> {
    rows.push(Row::put(tables::VIEWS, &part.id.to_be_bytes()[..], progress.encode(&view.text)));
    rows
}

/// Deletions of the rows whose last match lies before this offset, and whether there are more.
fn rows_before(ledger: &dyn Ledger, part: &Part, offset: i64) -> Result<(Vec<Row>, bool), LedgerError> {
    rows_of(ledger, part.id, offset)
}

/// As [`rows_before`], of any partition.
pub(crate) fn rows_of(ledger: &dyn Ledger, id: u32, offset: i64) -> Result<(Vec<Row>, bool), LedgerError> {
    let mut rows = Vec::new();
    ledger.scan(tables::MATCHES, &key(id, 0), &mut |found, _| {
        let ours = offset_in(found, id).is_some_and(|last| last < offset);
        if ours {
            rows.push(Row::delete(tables::MATCHES, found));
        }
        ours && rows.len() < REMOVED_ROWS
    })?;
    let more = rows.len() >= REMOVED_ROWS;
    Ok((rows, more))
}

/// How many records of a batch are visible, and which of them match.
pub(crate) fn evaluate(stored: &StoredBatch, header: &BatchHeader, filter: &Expression) -> (u64, Option<Matches>) {
    let (last, count) = (header.last_offset(), header.count);
    if header.is_control() || count <= 0 || stored.hidden.len() >= (last - header.base_offset + 1) as usize {
        return (0, None);
    }
    let records = match Records::open(&stored.batch, header, MAX_DECOMPRESSED) {
        Ok(records) => records,
        Err(error) => {
            tracing::error!(%error, offset = header.base_offset, "a batch cannot be read: views leave it out");
            return (0, None);
        }
    };
    let in_place = header.codec() == Some(Codec::None);
    let (mut found, mut visible, mut max_timestamp, mut at) = (Vec::new(), 0, NO_TIMESTAMP, HEADER_LEN);
    for record in records.iter().map_while(Result::ok) {
        let (start, len) = (at, record.raw().len());
        at += len;
        if stored.hidden.binary_search(&record.offset).is_ok() {
            continue;
        }
        visible += 1;
        if filter.matches(&Seen(&record)) {
            let (start, len) = if in_place { (start as u32, len as u32) } else { (0, 0) };
            max_timestamp = max_timestamp.max(record.timestamp);
            found.push(Match { offset: record.offset, start, len });
        }
    }
    if found.is_empty() {
        return (visible, None);
    }
    // As it is only where nothing else is in it and its last offset is a record's.
    let whole = found.len() as i64 == i64::from(count) && found.last().is_some_and(|record| record.offset == last);
    (visible, Some(Matches { header: *header, all: whole, max_timestamp, records: found }))
}
