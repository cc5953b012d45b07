//! SCRAM credentials as rows.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use krocket_stack::security::{Credentials, ScramCredential, ScramMechanism, Users};
use serde::{Deserialize, Serialize};

use super::{All, FORMAT, Kind, check_format};
use crate::log::tables::CREDENTIALS;

#[derive(Serialize, Deserialize)]
struct Record {
    format: u8,
    salt: String,
    iterations: i32,
    stored_key: String,
    server_key: String,
}

/// SCRAM credentials of users, for [`super::Store`].
pub(crate) struct CredentialKind;

impl Kind for CredentialKind {
    const TABLE: u8 = CREDENTIALS;
    const WHAT: &str = "a SCRAM credential";
    type Key = (String, ScramMechanism);
    type Value = Arc<ScramCredential>;
    type Snapshot = Credentials;

    fn key((user, mechanism): &Self::Key) -> Vec<u8> {
        [&[*mechanism as u8], user.as_bytes()].concat()
    }

    fn value(credential: &Self::Value) -> Vec<u8> {
        encode(credential)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(Self::Key, Self::Value), String> {
        let record: Record = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        check_format(record.format)?;
        let (mechanism, user) = key.split_first().ok_or("its key is empty")?;
        let known = ScramMechanism::from_number(*mechanism as i8);
        let mechanism = known.ok_or_else(|| format!("its mechanism is the unknown {mechanism}"))?;
        let user = String::from_utf8(user.to_vec()).map_err(|error| error.to_string())?;
        Ok(((user, mechanism), Arc::new(credential(mechanism, &record)?)))
    }

    fn all(credentials: &Credentials) -> All<Self> {
        let mut all = All::<Self>::new();
        for (user, its) in credentials.all().iter() {
            all.extend(its.iter().map(|(mechanism, it)| ((user.clone(), *mechanism), it.clone())));
        }
        all
    }

    fn publish(credentials: &Credentials, all: All<Self>) {
        let mut users = Users::new();
        for ((user, mechanism), credential) in all {
            users.entry(user).or_default().insert(mechanism, credential);
        }
        credentials.set(users);
    }
}

fn encode(credential: &ScramCredential) -> Vec<u8> {
    let record = Record {
        format: FORMAT,
        salt: BASE64.encode(&credential.salt),
        iterations: credential.iterations,
        stored_key: BASE64.encode(&credential.stored_key),
        server_key: BASE64.encode(&credential.server_key),
    };
    serde_json::to_vec(&record).expect("texts and numbers are JSON")
}

fn credential(mechanism: ScramMechanism, record: &Record) -> Result<ScramCredential, String> {
    let bytes = |text: &str| BASE64.decode(text).map_err(|error| error.to_string());
    let (stored_key, server_key) = (bytes(&record.stored_key)?, bytes(&record.server_key)?);
    if stored_key.len() != mechanism.length() || server_key.len() != mechanism.length() {
        return Err("its keys are not as long as its mechanism's".to_owned());
    }
    Ok(ScramCredential { salt: bytes(&record.salt)?, iterations: record.iterations, stored_key, server_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_and_a_later_format_is_refused() {
        let credential = ScramMechanism::Sha512.derive("secret", 4096);
        let of = ("älice".to_owned(), ScramMechanism::Sha512);
        let (key, value) = (CredentialKind::key(&of), encode(&credential));
        assert_eq!(CredentialKind::decode(&key, &value), Ok((of, Arc::new(credential))));
        let later = String::from_utf8(value.clone()).expect("JSON").replace("\"format\":1", "\"format\":2");
        assert!(CredentialKind::decode(&key, later.as_bytes()).is_err_and(|why| why.contains("format is 2")));
        assert!(
            CredentialKind::decode(&[9, b'a'], &value).is_err() && CredentialKind::decode(&[1, b'a'], &value).is_err()
        );
    }
}
