//! Passwords over HTTP (RFC 7617), of the same users as SASL's. Each request brings its password, and to check one takes
//! milliseconds: what was right is remembered for a while, and who is wrong too often has to wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use krocket_stack::Principal;
use krocket_stack::security::ScramCredential;
use parking_lot::Mutex;
use thiserror::Error;

use super::Users;
use crate::metrics;
use crate::quiet::Quiet;

/// How long a password that was right is not hashed again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Most passwords that are remembered.
const MAX_REMEMBERED: usize = 1000;
/// Wrong passwords that an address may send at once.
const TRIES: u32 = 20;
/// After that one more for each such time.
const NEXT_TRY: Duration = Duration::from_secs(1);
/// Most addresses whose wrong passwords are counted.
const MAX_ADDRESSES: usize = 10_000;
/// A refusal is not answered sooner: guessing gets no faster by more connections than there are tries.
const DELAY: Duration = Duration::from_millis(100);

/// Why somebody is not who they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotLetIn {
    /// The header is not base64 of `name:password`.
    #[error("the credentials are not base64 of \"name:password\"")]
    Malformed,
    /// No such user, or another password.
    #[error("user name or password is wrong")]
    Wrong,
    /// Too many wrong passwords came from this address.
    #[error("too many wrong passwords, try again in a second")]
    TooMany,
}

/// Checks the credentials of HTTP requests.
pub struct Basic {
    users: Users,
    /// Of this process: what is remembered is of no use outside.
    key: hmac::Key,
    right: Mutex<HashMap<Vec<u8>, Right>>,
    tries: Mutex<HashMap<IpAddr, Tries>>,
    failures: Quiet,
}

/// A password that was right.
struct Right {
    /// For this credential: a user's next one makes it worthless.
    credential: Arc<ScramCredential>,
    until: Instant,
}

/// Wrong passwords of an address.
struct Tries {
    count: u32,
    since: Instant,
}

impl Basic {
    /// For these users.
    pub fn new(users: Users) -> Self {
        for result in ["ok", "failed"] {
            count(result, 0);
        }
        let mut key = [0; 32];
        // It fails where the operating system has no randomness, which is no state to run in.
        rand::fill(&mut key).expect("the system's random numbers");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Basic { users, key, right: Mutex::default(), tries: Mutex::default(), failures: Quiet::default() }
    }

    /// Who sends these credentials: what follows `Basic` in the header.
    pub async fn check(&self, peer: IpAddr, credentials: &str) -> Result<Principal, NotLetIn> {
        let decoded = BASE64.decode(credentials).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or(NotLetIn::Malformed)?;
        let (user, password) = decoded.split_once(':').ok_or(NotLetIn::Malformed)?;
        let (mechanism, credential) = self.users.credential(user);
        let print = hmac::sign(&self.key, decoded.as_bytes()).as_ref().to_vec();
        if self.is_remembered(&print, &credential) {
            return Ok(Principal::user(user));
        }
        // Taken before it is known whether it is one too many: others are on their way at the same time.
        if !self.take_try(peer, Instant::now()) {
            return Err(NotLetIn::TooMany);
        }
        let right = !user.is_empty() && Users::hashes_to(mechanism, credential.clone(), password.to_owned()).await;
        if !right {
            count("failed", 1);
            if let Some(unsaid) = self.failures.admit() {
                let user: String = user.chars().take(64).collect();
                tracing::warn!(%peer, user, unsaid, "a user name or password over HTTP is wrong");
            }
            tokio::time::sleep(DELAY).await;
            return Err(NotLetIn::Wrong);
        }
        count("ok", 1);
        self.give_back(peer);
        self.remember(print, credential);
        Ok(Principal::user(user))
    }

    fn is_remembered(&self, print: &[u8], credential: &Arc<ScramCredential>) -> bool {
        let right = self.right.lock();
        right.get(print).is_some_and(|right| right.until > Instant::now() && right.credential == *credential)
    }

    fn remember(&self, print: Vec<u8>, credential: Arc<ScramCredential>) {
        let now = Instant::now();
        let mut right = self.right.lock();
        if right.len() >= MAX_REMEMBERED {
            right.retain(|_, right| right.until > now);
        }
        if right.len() < MAX_REMEMBERED {
            right.insert(print, Right { credential, until: now + REMEMBERED });
        }
    }

    fn take_try(&self, peer: IpAddr, now: Instant) -> bool {
        let mut tries = self.tries.lock();
        if tries.len() >= MAX_ADDRESSES {
            tries.retain(|_, tries| tries.at(now) > 0);
            // Whoever has so many addresses is not held up by counting.
            if tries.len() >= MAX_ADDRESSES {
                tries.clear();
            }
        }
        let known = tries.entry(network(peer)).or_insert(Tries { count: 0, since: now });
        known.count = known.at(now);
        known.since = if known.count == 0 { now } else { now - rest(now, known.since) };
        if known.count >= TRIES {
            return false;
        }
        known.count += 1;
        true
    }

    fn give_back(&self, peer: IpAddr) {
        if let Some(tries) = self.tries.lock().get_mut(&network(peer)) {
            tries.count = tries.count.saturating_sub(1);
        }
    }
}

impl Tries {
    /// Those that still count.
    fn at(&self, now: Instant) -> u32 {
        let forgiven = now.saturating_duration_since(self.since).as_nanos() / NEXT_TRY.as_nanos();
        self.count.saturating_sub(forgiven.try_into().unwrap_or(u32::MAX))
    }
}

/// What is left of the time since then when whole tries were given back for it.
fn rest(now: Instant, since: Instant) -> Duration {
    let passed = now.saturating_duration_since(since).as_nanos() % NEXT_TRY.as_nanos();
    Duration::from_nanos(passed as u64)
}

/// One customer has 2^64 addresses of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
        address => address,
    }
}

fn count(result: &str, by: u64) {
    metrics::get().authentications.with_label_values(&["http", "Basic", result]).inc_by(by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use krocket_stack::security::scram::MIN_ITERATIONS;
    use krocket_stack::security::{Credentials, ScramMechanism};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn set(credentials: &Credentials, user: &str, password: &str) {
        let credential = Arc::new(ScramMechanism::Sha256.derive(password, MIN_ITERATIONS));
        credentials.set([(user.to_owned(), [(ScramMechanism::Sha256, credential)].into())].into());
    }

    fn encode(text: &str) -> String {
        BASE64.encode(text)
    }

    #[tokio::test]
    async fn a_password_is_remembered_until_it_changes() {
        let credentials = Arc::new(Credentials::default());
        set(&credentials, "alice", "a:b");
        let basic = Basic::new(Users::new(None, credentials.clone(), b"secret"));
        let right = encode("alice:a:b");
        assert_eq!(basic.check(PEER, &right).await, Ok(Principal::user("alice")));
        assert_eq!(basic.check(PEER, &right).await, Ok(Principal::user("alice")));
        assert_eq!(basic.right.lock().len(), 1);

        set(&credentials, "alice", "other");
        assert_eq!(basic.check(PEER, &right).await, Err(NotLetIn::Wrong));
        assert_eq!(basic.check(PEER, &encode("alice:other")).await, Ok(Principal::user("alice")));
        credentials.set(HashMap::new());
        assert_eq!(basic.check(PEER, &encode("alice:other")).await, Err(NotLetIn::Wrong));

        set(&credentials, "alice", "a:b");
        basic.check(PEER, &right).await.expect("right");
        for right in basic.right.lock().values_mut() {
            right.until = Instant::now();
        }
        let print = hmac::sign(&basic.key, b"alice:a:b").as_ref().to_vec();
        assert!(!basic.is_remembered(&print, &basic.users.credential("alice").1), "it is hashed again after a while");
    }

    #[tokio::test]
    async fn what_is_no_name_and_password_is_refused() {
        let basic = Basic::new(Users::new(None, Arc::default(), b"secret"));
        for (credentials, expected) in [
            ("", NotLetIn::Malformed),
            ("alice:a", NotLetIn::Malformed),
            (&encode("alice"), NotLetIn::Malformed),
            (&BASE64.encode(b"\xff:a"), NotLetIn::Malformed),
            (&encode(":"), NotLetIn::Wrong),
            (&encode("alice:"), NotLetIn::Wrong),
        ] {
            assert_eq!(basic.check(PEER, credentials).await, Err(expected), "{credentials}");
        }
    }

    #[tokio::test]
    async fn who_guesses_has_to_wait_and_others_have_not() {
        let credentials = Arc::new(Credentials::default());
        set(&credentials, "alice", "a");
        let basic = Basic::new(Users::new(None, credentials, b"secret"));
        let right = encode("alice:a");
        basic.check(PEER, &right).await.expect("right");

        let start = Instant::now();
        let taken = (0..TRIES + 5).filter(|_| basic.take_try(PEER, start)).count();
        assert_eq!(taken, TRIES as usize);
        assert_eq!(basic.check(PEER, &encode("alice:b")).await, Err(NotLetIn::TooMany));
        assert!(basic.check(PEER, &right).await.is_ok(), "what is remembered is no guess");
        assert!(basic.take_try(IpAddr::from([127, 0, 0, 2]), start), "another address");

        let later = start + NEXT_TRY * 3 / 2;
        assert!(basic.take_try(PEER, later) && !basic.take_try(PEER, later));
        let later = start + NEXT_TRY * 2;
        assert!(basic.take_try(PEER, later) && !basic.take_try(PEER, later), "half a second is not lost");
        let v6 = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(v6("2001:db8::1")), network(v6("2001:db8::2")));
        assert_eq!(network(v6("::ffff:10.0.0.1")), v6("10.0.0.1"));
    }
}
