//! A request on its way down the stack and the response on its way up.

use std::any::Any;
use std::sync::Arc;

use krocket_protocol::{ApiKey, StrBytes};
use kafka_protocol::protocol::Decodable;

use crate::body::{Body, Message};
use crate::connection::Connection;
use crate::error::Error;

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

    /// The head and the decoded body.
    pub fn into_message<M: Decodable + Any + Send>(self) -> Result<(Head, M), Error> {
        let message = self.body.into_message(self.head.version)?;
        Ok((self.head, message))
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
