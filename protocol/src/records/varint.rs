//! Zigzag variable-length integers, as Kafka's `ByteUtils` writes them inside records.

/// Most bytes of a 32-bit varint.
pub const MAX_LEN_32: usize = 5;
/// Most bytes of a 64-bit varint.
pub const MAX_LEN_64: usize = 10;

/// Takes a 32-bit varint off the front; `None` where it is cut off or too long.
#[inline]
pub fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (value, len) = read_unsigned(bytes, MAX_LEN_32)?;
    *bytes = &bytes[len..];
    let value = value as u32;
    Some((value >> 1) as i32 ^ -((value & 1) as i32))
}

/// Takes a 64-bit varint off the front; `None` where it is cut off or too long.
#[inline]
pub fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    let (value, len) = read_unsigned(bytes, MAX_LEN_64)?;
    *bytes = &bytes[len..];
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[inline]
fn read_unsigned(bytes: &[u8], max_len: usize) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((first.into(), 1));
    }
    // Lengths up to 8 KB.
    let second = *bytes.get(1)?;
    if second < 0x80 {
        return Some((u64::from(first & 0x7f) | u64::from(second) << 7, 2));
    }
    read_long(bytes, max_len)
}

fn read_long(bytes: &[u8], max_len: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes[..bytes.len().min(max_len)].iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Appends a 32-bit varint.
pub fn write_i32(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, ((value << 1) ^ (value >> 31)) as u32 as u64);
}

/// Appends a 64-bit varint.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(narrow: i32, wide: i64, small in -70i32..70) {
            let mut out = Vec::new();
            write_i32(&mut out, narrow);
            write_i64(&mut out, wide);
            write_i32(&mut out, small);
            let mut rest = &out[..];
            prop_assert_eq!(read_i32(&mut rest), Some(narrow));
            prop_assert_eq!(read_i64(&mut rest), Some(wide));
            prop_assert_eq!(read_i32(&mut rest), Some(small));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(read_i32(&mut &[0xff; 16][..]), None);
        assert_eq!(read_i64(&mut &[0xff; 16][..]), None);
        assert_eq!(read_i32(&mut &[0x80][..]), None);
        assert_eq!(read_i32(&mut &[][..]), None);
    }
}
