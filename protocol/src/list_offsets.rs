//! ListOffsets up to version 11 (KIP-1023), whose bytes are those of version 10, the last one that the `kafka-protocol`
//! crate has: version 11 only gives a timestamp a meaning.

use anyhow::{Result, bail};
use kafka_protocol::messages::{ListOffsetsRequest as CrateRequest, ListOffsetsResponse as CrateResponse};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, VersionRange};

use crate::ApiKey;

/// The last version of the crate's messages.
const CRATE_VERSION: i16 = 10;
/// The served versions.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 11 };

/// The crate's request, at every version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsRequest(pub CrateRequest);

/// The crate's response, at every version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsResponse(pub CrateResponse);

fn crate_version(version: i16) -> Result<i16> {
    if version > VERSIONS.max {
        bail!("ListOffsets version {version} is not known");
    }
    Ok(version.min(CRATE_VERSION))
}

macro_rules! as_the_crate_has_it {
    ($message:ident, $inner:ident) => {
        impl Encodable for $message {
            fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
                self.0.encode(out, crate_version(version)?)
            }

            fn compute_size(&self, version: i16) -> Result<usize> {
                self.0.compute_size(crate_version(version)?)
            }
        }

        impl Decodable for $message {
            fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
                $inner::decode(body, crate_version(version)?).map($message)
            }
        }

        impl Message for $message {
            const VERSIONS: VersionRange = VERSIONS;
            const DEPRECATED_VERSIONS: Option<VersionRange> = None;
        }

        impl HeaderVersion for $message {
            fn header_version(version: i16) -> i16 {
                $inner::header_version(version)
            }
        }
    };
}

as_the_crate_has_it!(ListOffsetsRequest, CrateRequest);
as_the_crate_has_it!(ListOffsetsResponse, CrateResponse);

impl Request for ListOffsetsRequest {
    const KEY: i16 = ApiKey::ListOffsets as i16;
    type Response = ListOffsetsResponse;
}
