//! Frames that the index has not seen, applied as the writer would have: rows only, since partitions are loaded later.

use krocket_store::{BatchRow, BoxError, FrameAt, Op, Rows};

use super::tables;

/// Applies one frame.
pub(super) fn apply(at: FrameAt, ops: &[Op<'_>], rows: &mut Rows) -> Result<(), BoxError> {
    for op in ops {
        match *op {
            Op::Batch(ref batch) => rows.put_batch(batch.partition, &BatchRow::of(batch))?,
            Op::Put { table, key, value } => {
                rows.put(at.position, table, key, value)?;
                if table == tables::LOG_STARTS
                    && let (Ok(id), Ok(start)) = (key.try_into(), value.try_into())
                {
                    rows.delete_batches(u32::from_be_bytes(id), i64::from_be_bytes(start))?;
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
