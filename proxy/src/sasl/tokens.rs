//! Tokens of an identity provider: its keys, and what a token must say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use krocket_config::security::OauthBearer;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fetch::{self, Url};

/// What signatures may be made with: nothing whose key would be a secret that is shared.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];
/// How far clocks may differ (Kafka's sasl.oauthbearer.clock.skew.seconds).
const SKEW_SECONDS: u64 = 30;
/// Tokens that name unknown keys make the provider be asked no more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long a client with an unknown key waits for the provider's answer.
const WAIT: Duration = Duration::from_secs(5);

/// Why the provider's keys cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the keys at {place}: {message}")]
pub struct KeysError {
    place: String,
    message: String,
}

/// A token that is good.
pub(super) struct Valid {
    pub(super) name: String,
    pub(super) until_ms: u64,
}

struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    key: DecodingKey,
}

enum Place {
    File(PathBuf),
    Url(Url),
}

/// The provider's keys, read in the background, and the rules for its tokens.
pub struct Tokens {
    config: OauthBearer,
    place: Place,
    keys: ArcSwap<Vec<Key>>,
    /// Counts the times that keys were read.
    read: watch::Sender<u64>,
    ask: Notify,
    asked: Mutex<Option<Instant>>,
}

impl Tokens {
    /// Reads a file of keys at once; a URL is asked as soon as [`Tokens::follow`] runs.
    pub fn load(config: &OauthBearer) -> Result<Self, KeysError> {
        let refuse = |message: String| KeysError { place: config.jwks.clone(), message };
        let (place, keys) = match config.file() {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
                (Place::File(path.to_owned()), parse(&bytes).map_err(refuse)?)
            }
            None => {
                let url = Url::parse(&config.jwks, config.jwks_ca.as_deref()).map_err(refuse)?;
                (Place::Url(url), Vec::new())
            }
        };
        Ok(Tokens {
            config: config.clone(),
            place,
            keys: ArcSwap::from_pointee(keys),
            read: watch::Sender::new(0),
            ask: Notify::new(),
            asked: Mutex::default(),
        })
    }

    /// Reads the keys again and again until `stop`. Keys that cannot be read leave those that were.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut next = Duration::ZERO;
        loop {
            if let Place::File(_) = &self.place
                && next.is_zero()
            {
                next = self.config.refresh;
            }
            tokio::select! {
                () = sleep(next) => {}
                () = self.ask.notified() => {}
                () = stop.cancelled() => return,
            }
            next = match self.fetch().await {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), place = self.config.jwks, "read the token provider's keys");
                    self.keys.store(Arc::new(keys));
                    self.config.refresh
                }
                Err(message) => {
                    let error = KeysError { place: self.config.jwks.clone(), message };
                    tracing::error!(%error, "the keys that are known stay");
                    self.config.refresh.min(ASK_AGAIN)
                }
            };
            self.read.send_modify(|count| *count += 1);
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let bytes = match &self.place {
            Place::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string())?,
            Place::Url(url) => fetch::get(url).await?,
        };
        parse(&bytes)
    }

    /// What a token says, if it may be believed; otherwise the reason, for the log.
    pub(super) async fn validate(&self, token: &str) -> Result<Valid, String> {
        let header = decode_header(token).map_err(|error| format!("not a token: {error}"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(format!("tokens signed with {:?} are not taken", header.alg));
        }
        if !self.knows(header.kid.as_deref()) {
            self.ask_again().await;
        }
        let keys = self.keys.load();
        let mut reason = format!("no known key is called {:?}", header.kid);
        for key in keys.iter().filter(|key| key.fits(header.kid.as_deref(), header.alg)) {
            match decode::<Map<String, Value>>(token, &key.key, &self.rules(header.alg)) {
                Ok(data) => return self.read_claims(&data.claims),
                Err(error) => reason = format!("the token is refused: {error}"),
            }
        }
        Err(reason)
    }

    fn knows(&self, id: Option<&str>) -> bool {
        self.keys.load().iter().any(|key| id.is_none() || key.id.as_deref() == id)
    }

    /// Has the keys read in the background and waits for that, unless it was done a moment ago.
    async fn ask_again(&self) {
        let mut read = self.read.subscribe();
        {
            let mut asked = self.asked.lock();
            if asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
                return;
            }
            *asked = Some(Instant::now());
        }
        self.ask.notify_one();
        let _ = timeout(WAIT, read.changed()).await;
    }

    fn rules(&self, algorithm: Algorithm) -> Validation {
        let mut rules = Validation::new(algorithm);
        rules.leeway = SKEW_SECONDS;
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.config.issuer]);
        rules.set_audience(&self.config.audience);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules
    }

    fn read_claims(&self, claims: &Map<String, Value>) -> Result<Valid, String> {
        let claim = &self.config.subject_claim;
        let name = claims.get(claim).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("the token has no text in `{claim}`"))?.to_owned();
        let until = claims.get("exp").and_then(Value::as_f64).ok_or("the token has no time in `exp`")?;
        Ok(Valid { name, until_ms: (until * 1000.0) as u64 })
    }
}

impl Key {
    fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let named = id.is_none() || self.id.as_deref() == id;
        named && self.algorithm.as_ref().is_none_or(|its| *its == format!("{algorithm:?}"))
    }
}

/// The keys of a JWKS that tokens may be signed with.
fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    // Key by key: a kind that is unknown here must not cost the others.
    let document: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let keys = document.get("keys").and_then(Value::as_array).ok_or("no list of `keys` in it")?;
    let mut found = Vec::new();
    for key in keys {
        let set = serde_json::json!({ "keys": [key] });
        let Ok(JwkSet { keys }) = serde_json::from_value::<JwkSet>(set) else { continue };
        for jwk in keys {
            if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
                continue;
            }
            if matches!(jwk.algorithm, jsonwebtoken::jwk::AlgorithmParameters::OctetKey(_)) {
                continue;
            }
            if let Ok(key) = DecodingKey::from_jwk(&jwk) {
                let algorithm = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
                found.push(Key { id: jwk.common.key_id, algorithm, key });
            }
        }
    }
    match found.is_empty() {
        true => Err("none of its keys can be used".to_owned()),
        false => Ok(found),
    }
}
