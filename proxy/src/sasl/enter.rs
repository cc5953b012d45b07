//! Until a client is known it may ask for versions and prove who it is, one request after the other.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use krocket_protocol::ApiKey;
use krocket_protocol::chunk::Chunk;
use krocket_stack::Connection;
use tokio::time::timeout;

use super::Session;
use crate::connection::{ConnectionError, Shared};
use crate::reader::Reader;
use crate::service::{Call, CallError};
use crate::writer::Writer;

/// The largest request before a client is known (Kafka's sasl.server.max.receive.size).
const MAX_BYTES: usize = 512 << 10;

/// Serves the client until it is known; false when it left before.
pub(crate) async fn enter(
    session: &Arc<Session>,
    connection: &Arc<Connection>,
    reader: &mut Reader,
    writer: &mut Writer,
    shared: &Shared,
) -> Result<bool, ConnectionError> {
    let most = reader.limit(MAX_BYTES);
    let entered = async {
        while connection.authenticated.get().is_none() {
            let Some(frame) = reader.next().await? else { return Ok(false) };
            let answer = if session.is_raw() {
                raw(session, connection, &frame.bytes).await?
            } else {
                let call = Call::new(frame, connection)?;
                let api = call.head.api;
                if !matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
                    return Err(CallError::Unauthenticated { api }.into());
                }
                let asked = shared.requests.begin(&call.head, call.size);
                let answered = call.answer(shared.handler.clone(), Some(session.clone()), None, asked).await;
                answered.map(|answered| answered.frame)
            };
            match answer {
                Ok(frame) => writer.push(frame.unwrap_or_default()),
                Err(CallError::Refused { answer, reason }) => {
                    writer.push(answer);
                    writer.flush().await?;
                    return Err(CallError::Refused { answer: Vec::new(), reason }.into());
                }
                Err(error) => return Err(error.into()),
            }
            writer.flush().await?;
        }
        Ok::<_, ConnectionError>(true)
    };
    // Those who do not say who they are must not keep the place of others.
    let entered = match timeout(shared.limits.receive_timeout, entered).await {
        Ok(entered) => entered?,
        Err(_) => return Err(CallError::Late.into()),
    };
    reader.limit(most);
    Ok(entered)
}

type Answer = Result<Option<Vec<Chunk>>, CallError>;

/// A token as it is, and an answer as it is: what followed a handshake before Kafka 1.0. A refusal is the end.
async fn raw(session: &Session, connection: &Connection, token: &[u8]) -> Result<Answer, ConnectionError> {
    match session.token(connection, token).await {
        Ok((token, _)) => {
            let mut frame = BytesMut::with_capacity(4 + token.len());
            frame.put_i32(token.len() as i32);
            frame.put_slice(&token);
            Ok(Ok(Some(vec![Chunk::Bytes(frame.freeze())])))
        }
        Err((_, reason)) => Err(CallError::Refused { answer: Vec::new(), reason }.into()),
    }
}
