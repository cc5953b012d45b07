//! An identity provider: a key, tokens, and its document.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use krocket_config::security::OauthBearer;
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::Identity;

pub(crate) struct Provider {
    id: String,
    key: KeyPair,
}

const ISSUER: &str = "https://id.example";

impl Provider {
    pub(crate) fn new(id: &str) -> Self {
        Provider { id: id.to_owned(), key: KeyPair::generate().expect("a P-256 key") }
    }

    pub(crate) fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
    }

    pub(crate) fn config(&self, jwks: &str) -> OauthBearer {
        OauthBearer {
            jwks: jwks.to_owned(),
            jwks_ca: None,
            issuer: ISSUER.to_owned(),
            audience: vec!["krocket".to_owned()],
            subject_claim: "sub".to_owned(),
            refresh: std::time::Duration::from_secs(600),
        }
    }

    pub(crate) fn jwks(&self) -> String {
        // 4, x, y
        let point = self.key.der_bytes();
        let (x, y) = (BASE64URL.encode(&point[1..33]), BASE64URL.encode(&point[33..]));
        let key = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y});
        json!({ "keys": [{"kty": "who knows"}, key] }).to_string()
    }

    fn claims() -> Value {
        let now = Provider::now();
        json!({"iss": ISSUER, "aud": ["krocket", "other"], "sub": "dora", "iat": now, "exp": now + 60})
    }

    /// A good token, after a change of its claims.
    pub(crate) fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = Provider::claims();
        change(&mut claims);
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).expect("a key");
        encode(&header, &claims, &key).expect("signed")
    }

    pub(crate) fn unsigned(&self) -> String {
        let header = json!({"alg": "none", "kid": self.id}).to_string();
        format!("{}.{}.", BASE64URL.encode(header), BASE64URL.encode(Provider::claims().to_string()))
    }

    pub(crate) fn signed_with_public_key(&self) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::HS256) };
        encode(&header, &Provider::claims(), &EncodingKey::from_secret(self.key.der_bytes())).expect("signed")
    }

    /// Serves the document for as long as the test runs, and gives its address.
    pub(crate) async fn serve(&self, identity: Option<&Identity>) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        let document = self.jwks();
        let acceptor = identity.map(Identity::acceptor);
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                match &acceptor {
                    None => answer(stream, &document).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream, &document).await;
                        }
                    }
                }
            }
        });
        format!("{scheme}://127.0.0.1:{port}/keys")
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, document: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", document.len());
    let _ = stream.write_all((head + document).as_bytes()).await;
    let _ = stream.shutdown().await;
}
