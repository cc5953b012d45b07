//! Passwords: of the users file, and of Kafka's admin call.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use krocket_config::watch::{self, Content, Watch};
use krocket_stack::security::scram::MIN_ITERATIONS;
use krocket_stack::security::{Credentials, ScramCredential, ScramMechanism};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Most users of a file: each password is hashed when the file is read, some milliseconds each.
const MAX_USERS: usize = 1000;

/// Why a users file cannot be used.
#[derive(Debug, Error)]
#[error("{}: {message}", path.display())]
pub struct UsersError {
    path: PathBuf,
    message: String,
}

type Hashed = HashMap<String, [Arc<ScramCredential>; 2]>;

/// The users of the configuration. Passwords are hashed as they are read and then forgotten.
pub struct FileUsers {
    path: PathBuf,
    users: ArcSwap<Hashed>,
    watch: Mutex<Watch>,
}

impl FileUsers {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let (watch, contents) = Watch::new([path.to_owned()]);
        let users = hash(parse(path, &contents[0])?);
        Ok(FileUsers { path: path.to_owned(), users: ArcSwap::from_pointee(users), watch: Mutex::new(watch) })
    }

    /// Checks the file without the cost of hashing.
    pub fn check(path: &Path) -> Result<(), UsersError> {
        parse(path, &Watch::new([path.to_owned()]).1[0]).map(drop)
    }

    /// Follows the file until `stop`; an invalid one changes nothing.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(watch::follow(move || self.look())).await;
    }

    fn look(&self) {
        let Some(contents) = self.watch.lock().look() else { return };
        match parse(&self.path, &contents[0]) {
            Ok(users) => {
                tracing::info!(users = users.len(), "the users file was read again");
                self.users.store(Arc::new(hash(users)));
            }
            Err(error) => tracing::error!(%error, "the changed users file is refused, users stay as they were"),
        }
    }
}

/// The message never quotes the file: it is full of passwords.
fn parse(path: &Path, content: &Content) -> Result<BTreeMap<String, String>, UsersError> {
    let refuse = |message: String| UsersError { path: path.to_owned(), message };
    let bytes = content.as_ref().map_err(|why| refuse(why.clone()))?;
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8".to_owned()))?;
    let users: BTreeMap<String, String> = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(0, |span| text[..text.floor_char_boundary(span.start)].matches('\n').count() + 1);
        refuse(format!("line {line} is not of the form name = \"password\""))
    })?;
    if users.len() > MAX_USERS {
        return Err(refuse(format!("{} users; at most {MAX_USERS}, others are made with kafka-configs", users.len())));
    }
    match users.iter().find(|(name, password)| name.is_empty() || password.is_empty()) {
        Some((name, _)) => Err(refuse(format!("user \"{name}\": name and password must not be empty"))),
        None => Ok(users),
    }
}

fn hash(users: BTreeMap<String, String>) -> Hashed {
    let credential = |mechanism: ScramMechanism, password: &str| Arc::new(mechanism.derive(password, MIN_ITERATIONS));
    let both = |password: String| [ScramMechanism::Sha256, ScramMechanism::Sha512].map(|it| credential(it, &password));
    users.into_iter().map(|(name, password)| (name, both(password))).collect()
}

/// Everybody who has a password.
#[derive(Clone)]
pub struct Users {
    file: Option<Arc<FileUsers>>,
    stored: Arc<Credentials>,
    secret: Arc<[u8]>,
}

impl Users {
    /// `secret` makes the credentials of users that do not exist; it should outlive the process.
    pub fn new(file: Option<Arc<FileUsers>>, stored: Arc<Credentials>, secret: &[u8]) -> Self {
        Users { file, stored, secret: secret.into() }
    }

    /// A user's credential: the stored one before that of the file. Unknown users have one that no password fits.
    pub(super) fn scram(&self, user: &str, mechanism: ScramMechanism) -> Arc<ScramCredential> {
        self.stored
            .get(user, mechanism)
            .or_else(|| self.of_file(user, mechanism))
            .unwrap_or_else(|| Arc::new(mechanism.nobody(&self.secret, user)))
    }

    fn of_file(&self, user: &str, mechanism: ScramMechanism) -> Option<Arc<ScramCredential>> {
        let users = self.file.as_ref()?.users.load();
        let [sha256, sha512] = users.get(user)?;
        Some(if mechanism == ScramMechanism::Sha256 { sha256.clone() } else { sha512.clone() })
    }

    /// What a password of the user is checked against. It takes the same time whoever the user is and whether there is one.
    pub(super) fn credential(&self, user: &str) -> (ScramMechanism, Arc<ScramCredential>) {
        self.stored.any(user).unwrap_or_else(|| (ScramMechanism::Sha256, self.scram(user, ScramMechanism::Sha256)))
    }

    /// True when it is the user's password.
    pub(super) async fn is_password(&self, user: &str, password: String) -> bool {
        let (mechanism, credential) = self.credential(user);
        Users::hashes_to(mechanism, credential, password).await
    }

    /// True when the credential is this password's.
    pub(super) async fn hashes_to(
        mechanism: ScramMechanism,
        credential: Arc<ScramCredential>,
        password: String,
    ) -> bool {
        static HASHING: LazyLock<Semaphore> =
            LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, |count| count.get())));
        // Milliseconds of work, off the threads that serve clients and never more of it than there are processors.
        let _turn = HASHING.acquire().await;
        let work = move || mechanism.is_password(&credential, &password);
        tokio::task::spawn_blocking(work).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_is_refused_without_a_word_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.toml");
        for (text, expected) in [
            ("alice = \"a\"\nbob = hunter2\n", "line 2 is not of the form"),
            ("alice = \"a\"\nbob = 7\n", "line 2 is not of the form"),
            ("[hunter2]\nalice = \"a\"\n", "line 1 is not of the form"),
            ("alice = \"\"\n", "user \"alice\": name and password must not be empty"),
        ] {
            std::fs::write(&path, text).expect("written");
            let message = FileUsers::check(&path).expect_err(text).to_string();
            assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_changed_file_is_taken_over_when_it_was_seen_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.toml");
        std::fs::write(&path, "alice = \"a\"\n").expect("written");
        let users = FileUsers::load(&path).expect("loads");
        let password = |users: &FileUsers, name: &str, password: &str| {
            users.users.load().get(name).is_some_and(|[it, _]| ScramMechanism::Sha256.is_password(it, password))
        };
        assert!(password(&users, "alice", "a"));

        std::fs::write(&path, "alice = \"b\"\ncarol = \"c\"\n").expect("written");
        users.look();
        assert!(password(&users, "alice", "a"));
        users.look();
        assert!(password(&users, "alice", "b") && !password(&users, "alice", "a") && password(&users, "carol", "c"));

        std::fs::write(&path, "alice").expect("written");
        users.look();
        users.look();
        assert!(password(&users, "alice", "b"));
    }
}
