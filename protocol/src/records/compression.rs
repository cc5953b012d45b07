//! The five compressions of Kafka, with a limit on what comes out.
//!
//! Formats as Kafka's `CompressionType` and the clients write them: gzip members, snappy raw (librdkafka) or in
//! snappy-java's framing (Java), LZ4 frames of independent blocks, zstd frames.

use std::io::{self, Read, Write};

use super::record::RecordsError;

/// The header of snappy-java's framing: magic, version 1, compatible version 1.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Length of the magic that begins it.
const XERIAL_MAGIC_LEN: usize = 8;
/// Uncompressed bytes per block, as snappy-java's default.
const XERIAL_BLOCK: usize = 32 * 1024;
/// No snappy element of three bytes yields more than 64.
const SNAPPY_MAX_RATIO: usize = 22;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of a batch's attributes; `None` for an id that nobody defined.
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        Codec::ALL.get(usize::from(attributes as u16 & 0x07)).copied()
    }

    /// The id in a batch's attributes.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// The name in the config `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    fn failed(self, source: io::Error) -> RecordsError {
        RecordsError::Compression { codec: self.name(), source }
    }

    /// A reader of the uncompressed bytes. It sets no limit, but buffers little: a block (snappy) or a window (zstd).
    pub(crate) fn reader<'a>(self, bytes: &'a [u8]) -> Result<Box<dyn Read + 'a>, RecordsError> {
        Ok(match self {
            Codec::None => Box::new(bytes),
            Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Codec::Snappy if bytes.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_LEN]) => Box::new(Xerial::new(bytes)),
            Codec::Snappy => {
                let mut block = Vec::new();
                decompress_snappy(bytes, &mut block).map_err(|source| self.failed(source))?;
                Box::new(io::Cursor::new(block))
            }
            Codec::Lz4 => Box::new(lz4::Decoder::new(bytes).map_err(|source| self.failed(source))?),
            Codec::Zstd => {
                Box::new(zstd::stream::read::Decoder::with_buffer(bytes).map_err(|source| self.failed(source))?)
            }
        })
    }

    /// Decompresses all of `bytes`; more than `limit` bytes of output are an error.
    pub fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, RecordsError> {
        if self == Codec::None && bytes.len() > limit {
            return Err(RecordsError::TooLarge { limit });
        }
        let mut out = Vec::with_capacity(bytes.len().saturating_mul(3).min(limit));
        let mut reader = self.reader(bytes)?.take(limit as u64 + 1);
        reader.read_to_end(&mut out).map_err(|source| self.failed(source))?;
        if out.len() > limit { Err(RecordsError::TooLarge { limit }) } else { Ok(out) }
    }

    /// Appends `bytes` compressed, at each codec's usual level.
    pub fn compress(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RecordsError> {
        self.compress_into(bytes, out).map_err(|source| self.failed(source))
    }

    fn compress_into(self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Codec::None => out.extend_from_slice(bytes),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()?;
            }
            Codec::Snappy => {
                out.extend_from_slice(&XERIAL_HEADER);
                let mut encoder = snap::raw::Encoder::new();
                for block in bytes.chunks(XERIAL_BLOCK) {
                    let block = encoder.compress_vec(block)?;
                    out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                    out.extend_from_slice(&block);
                }
            }
            Codec::Lz4 => {
                // Java's reader refuses blocks that refer to earlier ones.
                let mut encoder = lz4::EncoderBuilder::new()
                    .block_mode(lz4::BlockMode::Independent)
                    .block_size(lz4::BlockSize::Max64KB)
                    .checksum(lz4::ContentChecksum::NoChecksum)
                    .build(out)?;
                encoder.write_all(bytes)?;
                encoder.finish().1?;
            }
            Codec::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
                encoder.write_all(bytes)?;
                encoder.finish()?;
            }
        }
        Ok(())
    }
}

/// Replaces `out` by the uncompressed block. Its claimed length is believed only where the input could yield it.
fn decompress_snappy(block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let length = snap::raw::decompress_len(block)?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(invalid("a snappy block claims more than it can hold"));
    }
    out.resize(length, 0);
    let written = snap::raw::Decoder::new().decompress(block, out)?;
    out.truncate(written);
    Ok(())
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads snappy-java's framing: a header, then blocks with a big-endian length each. A header may come again where
/// streams were concatenated.
struct Xerial<'a> {
    rest: &'a [u8],
    block: Vec<u8>,
    at: usize,
}

impl<'a> Xerial<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Xerial { rest: bytes, block: Vec::new(), at: 0 }
    }

    /// False at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        while self.rest.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_LEN]) {
            self.rest = self.rest.get(XERIAL_HEADER.len()..).ok_or_else(|| invalid("a snappy header is cut off"))?;
        }
        let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
            return if self.rest.is_empty() { Ok(false) } else { Err(invalid("a snappy block length is cut off")) };
        };
        let length = u32::from_be_bytes(*length) as usize;
        let block = rest.get(..length).ok_or_else(|| invalid("a snappy block is cut off"))?;
        self.rest = &rest[length..];
        self.at = 0;
        decompress_snappy(block, &mut self.block)?;
        Ok(true)
    }
}

impl Read for Xerial<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn text() -> Vec<u8> {
        (0..20_000u32).flat_map(|n| format!("order {} ", n * 7919 % 1009).into_bytes()).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        for codec in Codec::ALL {
            for bytes in [&text()[..], b"", b"x"] {
                let mut compressed = Vec::new();
                codec.compress(bytes, &mut compressed).expect("compresses");
                assert_eq!(codec.decompress(&compressed, LIMIT).expect("decompresses"), bytes, "{}", codec.name());
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for codec in Codec::ALL {
            let mut bomb = Vec::new();
            codec.compress(&zeros, &mut bomb).expect("compresses");
            assert!(matches!(codec.decompress(&bomb, LIMIT), Err(RecordsError::TooLarge { limit: LIMIT })));
        }
    }

    #[test]
    fn snappy_is_read_raw_and_in_concatenated_frames() {
        let raw = snap::raw::Encoder::new().compress_vec(&text()).expect("compresses");
        assert_eq!(Codec::Snappy.decompress(&raw, LIMIT).expect("raw"), text());
        let mut twice = Vec::new();
        Codec::Snappy.compress(&text(), &mut twice).expect("compresses");
        Codec::Snappy.compress(b"more", &mut twice).expect("compresses");
        let expected = [&text()[..], b"more"].concat();
        assert_eq!(Codec::Snappy.decompress(&twice, LIMIT).expect("framed"), expected);
    }

    #[test]
    fn a_snappy_block_cannot_claim_gigabytes() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert!(matches!(Codec::Snappy.decompress(&claim, LIMIT), Err(RecordsError::Compression { .. })));
    }

    /// Frames as liblz4's defaults make them: dependent blocks of another size, a checksum of the content.
    #[test]
    fn lz4_frames_with_other_settings_are_read() {
        let mut out = Vec::new();
        let mut encoder = lz4::EncoderBuilder::new()
            .block_size(lz4::BlockSize::Max4MB)
            .block_checksum(lz4::liblz4::BlockChecksum::BlockChecksumEnabled)
            .build(&mut out)
            .expect("builds");
        encoder.write_all(&text()).expect("memory");
        encoder.finish().1.expect("memory");
        assert_eq!(Codec::Lz4.decompress(&out, LIMIT).expect("reads"), text());
    }

    #[test]
    fn garbage_is_an_error() {
        for codec in &Codec::ALL[1..] {
            assert!(codec.decompress(b"not compressed at all", LIMIT).is_err(), "{}", codec.name());
        }
    }
}
