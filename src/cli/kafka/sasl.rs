//! A client's side of SASL: SCRAM where the listener has it, else PLAIN.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::ErrorCode;
use krocket_stack::security::ScramMechanism;
use krocket_stack::security::scram::MAX_ITERATIONS;

use super::Kafka;
use crate::exit::Failure;

/// Those that do not show the password first.
const MECHANISMS: &[&str] = &["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"];

/// A connection as this user. `open` gives new ones; true where nobody between can read what is sent.
pub(super) fn login(
    open: &dyn Fn() -> Result<(Kafka, bool), Failure>,
    user: &str,
    password: &str,
) -> Result<Kafka, Failure> {
    let (mut kafka, private) = open()?;
    let mut mechanism = MECHANISMS[0];
    let known = handshake(&mut kafka, mechanism)?;
    if !known.iter().any(|known| known == mechanism) {
        let Some(other) = MECHANISMS.iter().find(|ours| known.iter().any(|known| known == *ours)) else {
            let known = known.join(", ");
            return Err(Failure::Other(format!("{} takes no passwords, only {known}", kafka.address)));
        };
        mechanism = other;
        // Kafka closes a connection that asked for a mechanism that it does not have.
        (kafka, _) = open()?;
        handshake(&mut kafka, mechanism)?;
    }
    let refused = |why: String| Failure::Other(format!("{user} is not let in: {why}"));
    match mechanism {
        "SCRAM-SHA-512" => scram(&mut kafka, ScramMechanism::Sha512, user, password).map_err(refused)?,
        "SCRAM-SHA-256" => scram(&mut kafka, ScramMechanism::Sha256, user, password).map_err(refused)?,
        _ if !private => {
            return Err(refused("the listener has PLAIN only and no TLS, so the password would be seen".to_owned()));
        }
        _ => drop(send(&mut kafka, format!("\0{user}\0{password}")).map_err(refused)?),
    }
    Ok(kafka)
}

/// The mechanisms of the listener.
fn handshake(kafka: &mut Kafka, mechanism: &str) -> Result<Vec<String>, Failure> {
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_owned()));
    let answer = kafka.call(1, &request)?;
    match ErrorCode::try_from_code(answer.error_code) {
        None | Some(ErrorCode::UnsupportedSaslMechanism) => {
            Ok(answer.mechanisms.iter().map(|it| it.to_string()).collect())
        }
        Some(_) => Err(Failure::Other(format!("{} has no SASL: leave --user out", kafka.address))),
    }
}

fn send(kafka: &mut Kafka, token: String) -> Result<Bytes, String> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(token));
    let answer = kafka.call(2, &request).map_err(|failure| failure.to_string())?;
    match answer.error_code {
        0 => Ok(answer.auth_bytes),
        code => Err(answer.error_message.map_or_else(|| format!("error {code}"), |message| message.to_string())),
    }
}

/// RFC 5802. The server proves that it knows the password as well.
fn scram(kafka: &mut Kafka, mechanism: ScramMechanism, user: &str, password: &str) -> Result<(), String> {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let first = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
    let answer = send(kafka, format!("n,,{first}"))?;
    let odd = || "the server's side of SCRAM is not right".to_owned();
    let server = std::str::from_utf8(&answer).map_err(|_| odd())?;
    let attribute = |name: &str| server.split(',').find_map(|part| part.strip_prefix(name)).ok_or_else(odd);
    let salt = BASE64.decode(attribute("s=")?).map_err(|_| odd())?;
    let iterations: i32 = attribute("i=")?.parse().map_err(|_| odd())?;
    let both = attribute("r=")?;
    if !both.starts_with(&nonce) || !(1..=MAX_ITERATIONS).contains(&iterations) {
        return Err(odd());
    }
    let salted = mechanism.salted(password.as_bytes(), &salt, iterations);
    let last = format!("c=biws,r={both}");
    let message = format!("{first},{server},{last}");
    let client_key = mechanism.hmac(&salted, b"Client Key");
    let signature = mechanism.hmac(&mechanism.hash(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
    let answer = send(kafka, format!("{last},p={}", BASE64.encode(proof)))?;
    let expected = mechanism.hmac(&mechanism.hmac(&salted, b"Server Key"), message.as_bytes());
    match answer == format!("v={}", BASE64.encode(expected)) {
        true => Ok(()),
        false => Err("the server does not know this password".to_owned()),
    }
}
