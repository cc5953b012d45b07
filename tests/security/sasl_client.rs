//! A client's side of SASL, one message at a time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use krocket_stack::security::ScramMechanism;
use krocket_testkit::Client;
use tokio::io::{AsyncRead, AsyncWrite};

/// The error code and message, or the session's lifetime in ms.
pub(crate) type Login = Result<i64, (i16, String)>;

pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    version: i16,
    mechanism: &str,
) -> SaslHandshakeResponse {
    let mechanism = StrBytes::from_string(mechanism.to_owned());
    client.call(version, &SaslHandshakeRequest::default().with_mechanism(mechanism)).await
}

pub(crate) async fn token<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    bytes: impl Into<Bytes>,
) -> SaslAuthenticateResponse {
    client.call(2, &SaslAuthenticateRequest::default().with_auth_bytes(bytes.into())).await
}

fn outcome(response: &SaslAuthenticateResponse) -> Login {
    match response.error_code {
        0 => Ok(response.session_lifetime_ms),
        code => Err((code, response.error_message.as_ref().map(|message| message.to_string()).unwrap_or_default())),
    }
}

pub(crate) async fn plain<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    user: &str,
    password: &str,
) -> Login {
    assert_eq!(handshake(client, 1, "PLAIN").await.error_code, 0);
    outcome(&token(client, format!("\0{user}\0{password}")).await)
}

/// The server's first message, with which the salt comes.
pub(crate) async fn scram_first<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    mechanism: ScramMechanism,
    bare: &str,
) -> SaslAuthenticateResponse {
    let name = if mechanism == ScramMechanism::Sha256 { "SCRAM-SHA-256" } else { "SCRAM-SHA-512" };
    assert_eq!(handshake(client, 1, name).await.error_code, 0);
    token(client, format!("n,,{bare}")).await
}

/// The server must prove itself as well.
pub(crate) async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    mechanism: ScramMechanism,
    user: &str,
    password: &str,
) -> Login {
    let first_bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let response = scram_first(client, mechanism, &first_bare).await;
    outcome(&response)?;
    let server_first = String::from_utf8(response.auth_bytes.to_vec()).expect("text");
    let attribute =
        |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).expect("an attribute").to_owned();
    let (nonce, salt, iterations) = (attribute("r="), attribute("s="), attribute("i="));
    let salted = mechanism.salted(
        password.as_bytes(),
        &BASE64.decode(salt).expect("base64"),
        iterations.parse().expect("a number"),
    );
    let without_proof = format!("c=biws,r={nonce}");
    let message = format!("{first_bare},{server_first},{without_proof}");
    let client_key = mechanism.hmac(&salted, b"Client Key");
    let signature = mechanism.hmac(&mechanism.hash(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
    let response = token(client, format!("{without_proof},p={}", BASE64.encode(proof))).await;
    let lifetime = outcome(&response)?;
    let proves = mechanism.hmac(&mechanism.hmac(&salted, b"Server Key"), message.as_bytes());
    assert_eq!(response.auth_bytes, format!("v={}", BASE64.encode(proves)), "the server's proof");
    Ok(lifetime)
}

/// A refusal takes one more round.
pub(crate) async fn bearer<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, jwt: &str) -> Login {
    assert_eq!(handshake(client, 1, "OAUTHBEARER").await.error_code, 0);
    let response = token(client, format!("n,,\u{1}auth=Bearer {jwt}\u{1}\u{1}")).await;
    if response.auth_bytes.is_empty() {
        return outcome(&response);
    }
    assert_eq!(response.auth_bytes, r#"{"status":"invalid_token"}"#, "the challenge");
    let refused = outcome(&token(client, "\u{1}").await);
    assert!(refused.is_err());
    refused
}
