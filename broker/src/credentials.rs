//! SCRAM credentials: rows of the log, and the snapshot that logins are checked against.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use krocket_stack::security::{self, ScramCredential, ScramMechanism, Users};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use crate::log::tables::CREDENTIALS;
use crate::log::{Durability, Log, StorageError, Write};
use crate::topics::LoadError;

/// The rows' format; a later one is refused.
const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    format: u8,
    salt: String,
    iterations: i32,
    stored_key: String,
    server_key: String,
}

/// Who has which password, in the form in which it is kept.
#[derive(Debug)]
pub struct Credentials {
    known: Arc<security::Credentials>,
    /// One change at a time, so that the snapshot is what the rows are.
    changes: Mutex<()>,
}

/// What happens to one user's credential of one mechanism; `None` deletes it.
pub(crate) type Change = (String, ScramMechanism, Option<ScramCredential>);

impl Credentials {
    /// Reads what was stored.
    pub(crate) fn load(log: &Log) -> Result<Self, LoadError> {
        let mut users = Users::new();
        for row in log.scan(CREDENTIALS, b"") {
            let (key, value) = row?;
            let (mechanism, user, credential) =
                decode(&key, &value).map_err(|why| LoadError::Row { what: "a SCRAM credential", why })?;
            users.entry(user).or_default().insert(mechanism, Arc::new(credential));
        }
        let known = Arc::new(security::Credentials::default());
        known.set(users);
        Ok(Credentials { known, changes: Mutex::default() })
    }

    /// The snapshot, for logins.
    pub fn known(&self) -> Arc<security::Credentials> {
        self.known.clone()
    }

    /// Keeps other changes away while one is made up.
    pub(crate) async fn change(&self) -> Changing<'_> {
        Changing { credentials: self, _turn: self.changes.lock().await }
    }
}

/// The right to change credentials.
pub(crate) struct Changing<'a> {
    credentials: &'a Credentials,
    _turn: MutexGuard<'a, ()>,
}

impl Changing<'_> {
    /// True when the user has a credential of this mechanism.
    pub(crate) fn exists(&self, user: &str, mechanism: ScramMechanism) -> bool {
        self.credentials.known.get(user, mechanism).is_some()
    }

    /// All changes or none; when it returns they are on disk and hold for the next login.
    pub(crate) async fn commit(self, log: &Log, changes: Vec<Change>) -> Result<(), StorageError> {
        let write = |(user, mechanism, credential): &Change| {
            let key = key(user, *mechanism);
            match credential {
                Some(credential) => Write::Put { table: CREDENTIALS, key, value: encode(credential) },
                None => Write::Delete { table: CREDENTIALS, key },
            }
        };
        log.commit(changes.iter().map(write).collect(), Durability::Synced).await?;
        let known = &self.credentials.known;
        let mut users: Users = HashMap::clone(&known.all());
        for (user, mechanism, credential) in changes {
            match credential {
                Some(credential) => {
                    users.entry(user).or_default().insert(mechanism, Arc::new(credential));
                }
                None => {
                    let left = users.get_mut(&user).map(|its| {
                        its.remove(&mechanism);
                        its.len()
                    });
                    if left == Some(0) {
                        users.remove(&user);
                    }
                }
            }
        }
        known.set(users);
        Ok(())
    }
}

fn key(user: &str, mechanism: ScramMechanism) -> Vec<u8> {
    [&[mechanism as u8], user.as_bytes()].concat()
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

fn decode(key: &[u8], value: &[u8]) -> Result<(ScramMechanism, String, ScramCredential), String> {
    let record: Record = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if record.format != FORMAT {
        return Err(format!("its format is {}, this version of krocket reads {FORMAT}", record.format));
    }
    let (mechanism, user) = key.split_first().ok_or("its key is empty")?;
    let known = ScramMechanism::from_number(*mechanism as i8);
    let mechanism = known.ok_or_else(|| format!("its mechanism is the unknown {mechanism}"))?;
    let user = String::from_utf8(user.to_vec()).map_err(|error| error.to_string())?;
    let bytes = |text: &str| BASE64.decode(text).map_err(|error| error.to_string());
    let (stored_key, server_key) = (bytes(&record.stored_key)?, bytes(&record.server_key)?);
    if stored_key.len() != mechanism.length() || server_key.len() != mechanism.length() {
        return Err("its keys are not as long as its mechanism's".to_owned());
    }
    let credential =
        ScramCredential { salt: bytes(&record.salt)?, iterations: record.iterations, stored_key, server_key };
    Ok((mechanism, user, credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_and_a_later_format_is_refused() {
        let credential = ScramMechanism::Sha512.derive("secret", 4096);
        let (key, value) = (key("älice", ScramMechanism::Sha512), encode(&credential));
        assert_eq!(decode(&key, &value), Ok((ScramMechanism::Sha512, "älice".to_owned(), credential)));
        let later = String::from_utf8(value.clone()).expect("JSON").replace("\"format\":1", "\"format\":2");
        assert!(decode(&key, later.as_bytes()).is_err_and(|why| why.contains("format is 2")));
        assert!(decode(&[9, b'a'], &value).is_err() && decode(&[1, b'a'], &value).is_err());
    }
}
