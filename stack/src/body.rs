//! A message that is bytes until somebody needs its fields, and fields until somebody needs its bytes.

use std::any::Any;

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::{Decodable, Encodable};
use krocket_protocol::chunk::Chunks;
use krocket_protocol::fetch::FetchResponse;
use krocket_protocol::share_fetch::ShareFetchResponse;

use crate::error::Error;
use crate::produce::Produce;

/// A decoded Kafka message, request or response, without its type.
pub trait Message: Any + Send {
    /// Appends the message at this version.
    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), Error>;
}

impl<M: Encodable + Any + Send> Message for M {
    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), Error> {
        Encodable::encode(self, &mut out.buffer, version).map_err(|source| Error::Encode { source })
    }
}

/// The body of a request or response.
pub enum Body {
    /// As it came from the wire.
    Raw(Bytes),
    /// Decoded or made here.
    Typed(Box<dyn Message>),
    /// A Fetch response, whose records may still lie in the log.
    Fetch(FetchResponse),
    /// A ShareFetch response, likewise.
    ShareFetch(ShareFetchResponse),
    /// A Produce request that a layer looked into.
    Produce(Produce),
}

impl Body {
    /// The message's fields. Decodes what is still raw and believes it: [`Request::into_message`](crate::Request) guards
    /// what came from a client. A body made as another type is a bug and an error.
    pub(crate) fn into_message<M: Decodable + Any + Send>(self, version: i16) -> Result<M, Error> {
        match self {
            Body::Raw(mut bytes) => {
                let message = M::decode(&mut bytes, version).map_err(|source| Error::Malformed { source })?;
                if bytes.has_remaining() {
                    return Err(Error::TrailingBytes { count: bytes.remaining() });
                }
                Ok(message)
            }
            Body::Typed(message) => {
                let message: Box<dyn Any> = message;
                message
                    .downcast::<M>()
                    .map(|message| *message)
                    .map_err(|_| Error::WrongType { expected: std::any::type_name::<M>() })
            }
            Body::Fetch(_) | Body::ShareFetch(_) | Body::Produce(_) => {
                Err(Error::WrongType { expected: std::any::type_name::<M>() })
            }
        }
    }

    /// The Fetch response's fields.
    pub fn into_fetch(self) -> Result<FetchResponse, Error> {
        match self {
            Body::Fetch(response) => Ok(response),
            _ => Err(Error::WrongType { expected: "FetchResponse" }),
        }
    }

    /// The body's bytes at this version.
    pub fn encode(self, version: i16) -> Result<Chunks, Error> {
        let mut out = Chunks::default();
        match self {
            Body::Raw(bytes) => return Ok(bytes.into()),
            Body::Typed(message) => message.encode(version, &mut out)?,
            Body::Fetch(response) => response.encode(version, &mut out),
            Body::ShareFetch(response) => response.encode(&mut out),
            // Notes have no place on the wire, so a backend reads this body and never encodes it.
            Body::Produce(_) => return Err(Error::WrongType { expected: "a message that can be encoded" }),
        }
        Ok(out)
    }
}
