//! The cluster's id and secret: made once, kept with the data.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::log::tables::CLUSTER;
use crate::log::{Durability, Log, StorageError, Write};

const ID: &[u8] = b"id";
const SECRET: &[u8] = b"secret";

/// The id in Kafka's form, 22 characters of base64; on a new folder it is `wanted` or a random one.
pub(crate) fn id(log: &Log, wanted: Option<Uuid>) -> Result<String, StorageError> {
    if let Some(bytes) = log.get(CLUSTER, ID)? {
        let id = Uuid::from_slice(&bytes).map_err(|_| StorageError {
            message: format!("the stored cluster id has {} bytes instead of 16", bytes.len()),
            passing: false,
            damaged: false,
        })?;
        if wanted.is_some_and(|wanted| wanted != id) {
            tracing::warn!(id = encode(id), "the data folder keeps its own cluster id, not the configured one");
        }
        return Ok(encode(id));
    }
    let id = wanted.unwrap_or_else(Uuid::new_v4);
    let put = Write::Put { table: CLUSTER, key: ID.to_vec(), value: id.as_bytes().to_vec() };
    log.commit(vec![put], Durability::Synced).wait()?;
    Ok(encode(id))
}

/// Random bytes that are this cluster's for ever and nobody else's: what cannot be told apart by guessing.
pub(crate) fn secret(log: &Log) -> Result<Vec<u8>, StorageError> {
    if let Some(secret) = log.get(CLUSTER, SECRET)? {
        return Ok(secret);
    }
    let secret = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    let put = Write::Put { table: CLUSTER, key: SECRET.to_vec(), value: secret.clone() };
    log.commit(vec![put], Durability::Synced).wait()?;
    Ok(secret)
}

fn encode(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_kafkas() {
        assert_eq!(encode(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(encode(Uuid::from_u128(u128::MAX)), "_____________________w");
    }
}
