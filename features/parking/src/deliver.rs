//! One round for one partition: what is due is appended anew, and its rows go, in the same frame.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use krocket_features::headers::{BORN_TIMESTAMP, MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID};
use krocket_features::produce::error_of;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Codec, Header, LastOffset, Record, Records};
use krocket_protocol::{ApiKey, StrBytes};
use krocket_stack::ledger::{Fate, PartitionId, PartitionInfo, tables};
use krocket_stack::{
    Connection, Handler, Head, LedgerError, Notes, Produce, ProducePartition, ProduceTopic, Request, Row,
};

use crate::claims::Claim;
use crate::metrics::METRICS;
use crate::rows::{self, Ended, Outcome};
use crate::{Due, Parking};

/// The last version that names topics.
const VERSION: i16 = 12;
/// Most records of a round: the turn of one partition.
const ROUND: usize = 4000;
/// Most records and about most bytes of a batch.
const BATCH_RECORDS: i32 = 2000;
const BATCH_BYTES: usize = 900 << 10;
/// Bytes read at first, and at most at a time.
const FIRST_READ_BYTES: usize = 16 << 10;
/// So many records or fewer are read batch by batch: they hardly lie next to each other.
const FEW: usize = 8;
const READ_BYTES: usize = 4 << 20;
const TIMEOUT_MS: i32 = 30_000;
const AGAIN_MS: i64 = 5;
const OPEN_AGAIN_MS: i64 = 20;

/// Where to, and how durably.
type Target = (StrBytes, i32, bool);

/// A batch to deliver with the rows that go.
struct Outgoing {
    target: Target,
    batch: Bytes,
    rows: Vec<Row>,
    dues: Vec<i64>,
}

/// What a look led to.
struct Built {
    outgoing: Vec<Outgoing>,
    /// Rows of records that are never delivered.
    gone: Vec<Row>,
    /// Since when the first record is due that an open transaction holds.
    open: Option<i64>,
}

/// What a look found.
struct Found {
    due: Vec<Due>,
    claims: Vec<Claim>,
    /// Due time from which rows are left, and of the next thing that is not due yet.
    cursor: i64,
    next: Option<i64>,
}

/// Delivers what is due in a partition, so much at most.
pub(crate) async fn round(parking: &Arc<Parking>, next: &dyn Handler, partition: PartitionId) -> Result<(), String> {
    let from = parking.heads.take(partition);
    let Some(info) = parking.ledger.partition(partition) else {
        // Its topic was deleted, and its rows with it.
        parking.heads.forget(partition);
        return Ok(());
    };
    let looking = parking.clone();
    let now = parking.ledger.now_ms();
    let looked = tokio::task::spawn_blocking(move || {
        let found = look(&looking, partition, info.end, from, now)?;
        let (checks, deliveries): (Vec<Due>, Vec<Due>) =
            found.due.iter().cloned().partition(|due| due.entry.half().is_some());
        let built = build(&looking, &info, &deliveries, now)?;
        Ok::<_, LedgerError>((found, checks, built))
    });
    let (mut found, checks, Built { outgoing, gone, open }) = match looked.await {
        Ok(Ok(looked)) => looked,
        Ok(Err(error)) => {
            parking.heads.looked(partition, from, None);
            return Err(error.to_string());
        }
        Err(error) => {
            parking.heads.looked(partition, from, None);
            return Err(error.to_string());
        }
    };
    let mut result = send(next, outgoing, now).await;
    if !gone.is_empty()
        && let Err(error) = parking.ledger.commit(gone, false).await
    {
        result = Err(error.to_string());
    }
    let mut soonest = found.next;
    if let Some(due) = open {
        // Until its transaction ends.
        found.cursor = found.cursor.min(due);
        soonest = Some(soonest.unwrap_or(i64::MAX).min(now + OPEN_AGAIN_MS));
    }
    drop(found.claims);
    parking.asking.start(parking, checks);
    match result {
        Ok(()) => {
            parking.heads.looked(partition, found.cursor, soonest);
            Ok(())
        }
        Err(error) => {
            parking.heads.looked(partition, from, None);
            Err(error)
        }
    }
}

/// What is due, claimed.
fn look(parking: &Parking, partition: PartitionId, durable: i64, from: i64, now: i64) -> Result<Found, LedgerError> {
    let before = parking.claims.released();
    let mut due = Vec::new();
    let (mut next, mut cursor) = (None, now + 1);
    let mut early = false;
    parking.pending(partition, from, None, &mut |listed| {
        if listed.due > now {
            // Set aside: it has no time.
            next = Some(listed.due).filter(|due| *due != i64::MAX);
            return false;
        }
        if due.len() == ROUND {
            next = Some(listed.due);
            cursor = listed.due;
            return false;
        }
        // Its row is there before it is on disk as its producer asked for.
        if listed.at.1 >= durable {
            early = true;
            return true;
        }
        due.push(Due { at: listed.at, due: listed.due, entry: listed.entry, was: listed.was });
        true
    })?;
    let asked = due.len();
    let claims = parking.claims.take_free(&mut due, |due| due.at);
    if early || due.len() < asked {
        // Or somebody is changing one: look again when that is over.
        cursor = from;
        next = Some(now + AGAIN_MS);
    }
    if parking.claims.released() != before {
        // Somebody may have changed one between the look and the taking: what is no longer there is not delivered.
        let mut kept = Vec::with_capacity(due.len());
        for one in due {
            if parking.ledger.get(tables::DUE, &rows::due_key(one.at, one.due))?.is_some() {
                kept.push(one);
            }
        }
        due = kept;
    }
    Ok(Found { due, claims, cursor, next })
}

/// Reads the records and puts them into batches, one target after the other, in the order of their due times.
fn build(parking: &Parking, info: &PartitionInfo, due: &[Due], now: i64) -> Result<Built, LedgerError> {
    let mut records = read(parking, due)?;
    let mut targets: BTreeMap<(String, i32, bool), Open> = BTreeMap::new();
    let (mut out, mut gone, mut waiting) = (Vec::new(), Vec::new(), None::<i64>);
    let end = |gone: &mut Vec<Row>, one: &Due, outcome| {
        let ended = Ended { outcome, at: now, by: None };
        gone.extend(rows::unpark_known(one.at, one.due, one.was));
        gone.push(rows::end(one.at, &ended));
    };
    for one in due {
        let more = one.entry.more.as_deref();
        let own = || (info.topic.to_string(), info.index);
        let (topic, index) = more.and_then(|more| more.target.clone()).unwrap_or_else(own);
        let key = (topic, index, one.entry.synced);
        let Some((batch, place)) = records.remove(&one.at.1) else {
            METRICS.lost.inc();
            tracing::error!(partition = one.at.0, offset = one.at.1, "a parked record cannot be read: it is given up");
            end(&mut gone, one, Outcome::Lost);
            continue;
        };
        if batch.header().is_transactional() {
            match parking.ledger.fate(one.at.0, one.at.1)? {
                Fate::Committed => {}
                Fate::Open => {
                    waiting = Some(waiting.map_or(one.due, |due| due.min(one.due)));
                    continue;
                }
                Fate::Aborted => {
                    end(&mut gone, one, Outcome::Aborted);
                    continue;
                }
            }
        }
        let open = targets.entry(key.clone()).or_insert_with(|| Open::new(now));
        let record =
            Parked { batch: &batch, place, info, offset: one.at.1, headers: more.map_or(&[], |more| &more.headers) };
        record.push(open);
        open.rows.extend(rows::unpark_known(one.at, one.due, one.was));
        open.dues.push(one.due);
        if open.is_full() {
            let full = std::mem::replace(open, Open::new(now));
            out.extend(full.finish(&key));
        }
    }
    for (key, open) in targets {
        out.extend(open.finish(&key));
    }
    Ok(Built { outgoing: out, gone, open: waiting })
}

/// Each due record's batch and byte range in it, by offset.
type Bodies = std::collections::HashMap<i64, (Arc<Records>, usize)>;

fn read(parking: &Parking, due: &[Due]) -> Result<Bodies, LedgerError> {
    let mut offsets: Vec<i64> = due.iter().map(|due| due.at.1).collect();
    offsets.sort_unstable();
    let mut bodies = Bodies::with_capacity(offsets.len());
    let Some(partition) = due.first().map(|due| due.at.0) else { return Ok(bodies) };
    let mut wanted = offsets.into_iter().peekable();
    let least = if due.len() <= FEW { 1 } else { FIRST_READ_BYTES };
    let mut bytes = least;
    while let Some(first) = wanted.peek().copied() {
        let mut reached = first;
        let batches = parking.ledger.batches(partition, first, bytes)?;
        let read = batches.len();
        let mut used = 0;
        for stored in batches {
            let Ok(header) = BatchHeader::read(&stored.batch) else { continue };
            reached = header.last_offset();
            if wanted.peek().is_none_or(|offset| *offset > reached) {
                continue;
            }
            let Ok(records) = Records::open(&stored.batch, &header, MAX_DECOMPRESSED) else { continue };
            let records = Arc::new(records);
            let mut at = 0;
            for record in records.iter() {
                let Ok(record) = record else { break };
                while wanted.next_if(|offset| *offset < record.offset).is_some() {}
                if wanted.next_if_eq(&record.offset).is_some() {
                    bodies.insert(record.offset, (records.clone(), at));
                }
                at += record.raw().len();
            }
            while wanted.next_if(|offset| *offset <= reached).is_some() {}
            used += 1;
        }
        // More at a time while they are close together.
        bytes = if used * 2 > read { (bytes * 2).min(READ_BYTES) } else { least };
        // What is not there is not waited for.
        while wanted.next_if(|offset| *offset <= reached).is_some() {}
    }
    Ok(bodies)
}

/// A batch that is being filled.
struct Open {
    builder: BatchBuilder,
    codec: Codec,
    rows: Vec<Row>,
    dues: Vec<i64>,
    now: i64,
}

impl Open {
    fn new(now: i64) -> Self {
        Open { builder: BatchBuilder::new(0, now), codec: Codec::None, rows: Vec::new(), dues: Vec::new(), now }
    }

    fn is_full(&self) -> bool {
        self.builder.count() >= BATCH_RECORDS || self.builder.section_len() >= BATCH_BYTES
    }

    fn finish(self, key: &(String, i32, bool)) -> Option<Outgoing> {
        let target = (StrBytes::from_string(key.0.clone()), key.1, key.2);
        let batch = self.builder.codec(self.codec).finish(LastOffset::Trim).ok().flatten();
        Some(Outgoing { target, batch: batch?, rows: self.rows, dues: self.dues })
    }
}

/// A record and what is added to it.
struct Parked<'a> {
    batch: &'a Arc<Records>,
    place: usize,
    info: &'a PartitionInfo,
    offset: i64,
    headers: &'a [(String, String)],
}

impl Parked<'_> {
    fn push(&self, open: &mut Open) {
        let Some(record) = self.batch.at(self.place) else { return };
        let id = format!("{}:{}:{}", self.info.topic, self.info.index, self.offset);
        let born = record.timestamp.to_string();
        let mut added: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (&name[..], value.as_bytes())).collect();
        for (name, value) in [(ORIGIN_MESSAGE_ID, id.as_bytes()), (BORN_TIMESTAMP, born.as_bytes())] {
            if !added.iter().any(|(given, _)| *given == name) {
                added.push((name, value));
            }
        }
        let headers = headers(&record, &added);
        open.builder.push(open.builder.count().into(), open.now, record.key, record.value, &headers);
        open.codec = self.batch.header().codec().unwrap_or(Codec::None);
    }
}

/// The record's own headers but those that are given anew, then these.
fn headers<'a>(record: &Record<'a>, added: &[(&'a str, &'a [u8])]) -> Vec<Header<'a>> {
    let own = record.headers().map_while(Result::ok);
    let kept = own.filter(|header| !added.iter().any(|(name, _)| name.as_bytes() == header.key));
    kept.chain(added.iter().map(|(name, value)| Header { key: name.as_bytes(), value: Some(value) })).collect()
}

/// Sends all batches; an error where one was refused: its records are still parked.
async fn send(next: &dyn Handler, outgoing: Vec<Outgoing>, now: i64) -> Result<(), String> {
    let mut result = Ok(());
    for one in outgoing {
        let Outgoing { target: (topic, index, synced), batch, rows, dues } = one;
        let notes = Notes { rows, ..Notes::default() };
        let partition = ProducePartition { index, records: batch, notes, ..ProducePartition::default() };
        let topic = ProduceTopic { name: topic, partitions: vec![partition], ..ProduceTopic::default() };
        let acks = if synced { -1 } else { 1 };
        let produce = Produce { acks, timeout_ms: TIMEOUT_MS, topics: vec![topic], ..Produce::default() };
        let answer = next.call(Request::from_produce(head(), produce)).await;
        let response = answer.and_then(|response| response.into_message::<ProduceResponse>(VERSION));
        let error = match response {
            Ok(response) => error_of(&response, 0, 0),
            Err(error) => Some(error.to_string()),
        };
        match error {
            None => {
                METRICS.delivered.inc_by(dues.len() as u64);
                dues.iter().for_each(|due| METRICS.lateness.observe((now - due) as f64 / 1e3));
            }
            Some(error) => result = Err(error),
        }
    }
    result
}

fn head() -> Head {
    let connection = Arc::new(Connection::internal("krocket"));
    Head { api: ApiKey::Produce, version: VERSION, client_id: Some(StrBytes::from_static_str("krocket")), connection }
}
