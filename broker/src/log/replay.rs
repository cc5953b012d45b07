//! Frames that the index has not seen, applied as the writer would have: rows only, since partitions are loaded later.

use krocket_stack::ledger::tables::WORK;
use krocket_store::{BatchRow, BoxError, FrameAt, Op, Position, Rows};

use super::marks::INDEXED;
use super::tables;
use super::trim::LogStart;

/// Applies one frame.
pub(super) fn apply(at: FrameAt, ops: &[Op<'_>], rows: &mut Rows) -> Result<(), BoxError> {
    for op in ops {
        match *op {
            Op::Batch(ref batch) => {
                let row = BatchRow::of(batch);
                rows.put_batch(batch.partition, &row)?;
                note_work(rows, at.position, batch.partition, &row);
            }
            Op::Put { table, key, value } => {
                rows.put(at.position, table, key, value)?;
                if table == tables::LOG_STARTS
                    && let (Ok(id), Some(LogStart { floor, .. })) = (key.try_into(), LogStart::decode(value))
                {
                    rows.delete_batches(u32::from_be_bytes(id), floor)?;
                }
            }
            Op::Delete { table, key } => rows.delete(table, key)?,
            Op::Drop { partition, first_offset, last_offset } => {
                rows.drop_batches(partition, first_offset, last_offset)?;
            }
        }
    }
    Ok(())
}

/// A batch that is to be indexed waits in [`WORK`] until somebody did. In a rebuild a compacted batch may be all that is
/// left of the original, so it counts as well; while running nothing new is in it.
pub(super) fn note_work(rows: &mut Rows, position: Position, partition: u32, row: &BatchRow) {
    if row.flags & INDEXED != 0 {
        let place = (position.to_be_bytes(), partition.to_be_bytes(), row.last_offset.to_be_bytes());
        rows.put_derived(WORK, &[&place.0[..], &place.1, &place.2].concat(), &[]);
    }
}
