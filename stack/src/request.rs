//! A request on its way down the stack and the response on its way up.

use std::any::Any;
use std::sync::Arc;

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::protocol::Decodable;
use krocket_protocol::{ApiKey, StrBytes, guard};

use crate::body::{Body, Message};
use crate::connection::Connection;
use crate::error::Error;
use crate::produce::Produce;

/// What is known of a request without its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which API.
    pub api: ApiKey,
    /// Which version of it; one that is served.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
    /// Where it came from.
    pub connection: Arc<Connection>,
}

/// A Kafka request.
pub struct Request {
    /// Everything but the body.
    pub head: Head,
    /// The body, decoded or not.
    pub body: Body,
}

impl Request {
    /// A request made here, by a layer or a worker.
    pub fn new(head: Head, message: impl Message) -> Self {
        Request { head, body: Body::Typed(Box::new(message)) }
    }

    /// The head and the decoded body. Bytes from the wire pass the guard first: this is the only way to decode them, and
    /// who passes a request on passes it on decoded, so that happens once.
    pub fn into_message<M: Decodable + Any + Send>(mut self) -> Result<(Head, M), Error> {
        if let Body::Raw(bytes) = &mut self.body {
            let extra = guard::check(self.head.api, self.head.version, bytes)?;
            bytes.truncate(bytes.len() - extra);
        }
        let message = self.body.into_message(self.head.version)?;
        Ok((self.head, message))
    }

    /// The head and the Produce request: decoded by whoever looks into it first, handed on with
    /// [`Request::from_produce`].
    pub fn into_produce(self) -> Result<(Head, Produce), Error> {
        if let Body::Produce(produce) = self.body {
            return Ok((self.head, produce));
        }
        let (head, message) = self.into_message::<ProduceRequest>()?;
        Ok((head, message.into()))
    }

    /// A Produce request that a layer looked into or a worker made.
    pub fn from_produce(head: Head, produce: Produce) -> Self {
        Request { head, body: Body::Produce(produce) }
    }
}

/// The answer to a request.
pub enum Response {
    /// Goes back to the client.
    Body(Body),
    /// acks=0: nothing goes back.
    None,
}

impl Response {
    /// A response made here.
    pub fn new(message: impl Message) -> Self {
        Response::Body(Body::Typed(Box::new(message)))
    }

    /// The decoded response; an error where there is none.
    pub fn into_message<M: Decodable + Any + Send>(self, version: i16) -> Result<M, Error> {
        match self {
            Response::Body(body) => body.into_message(version),
            Response::None => Err(Error::WrongType { expected: std::any::type_name::<M>() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::MetadataRequest;

    use super::*;

    fn metadata(body: &'static [u8]) -> Result<(Head, MetadataRequest), Error> {
        let connection = Arc::new(Connection::internal("test"));
        let head = Head { api: ApiKey::Metadata, version: 1, client_id: None, connection };
        Request { head, body: Body::Raw(Bytes::from_static(body)) }.into_message()
    }

    #[test]
    fn a_count_from_the_wire_is_not_believed() {
        assert!(matches!(metadata(&[0x7f, 0xff, 0xff, 0xff]), Err(Error::Shape(_))));
        let (_, message) = metadata(&[0xff, 0xff, 0xff, 0xff]).expect("all topics");
        assert!(message.topics.is_none());
    }

    /// As Kafka does; librdkafka's Metadata requests end with an array too many.
    #[test]
    fn bytes_after_the_last_field_are_passed_over() {
        let (_, message) = metadata(&[0xff, 0xff, 0xff, 0xff, 0]).expect("all topics");
        assert!(message.topics.is_none());
    }
}
