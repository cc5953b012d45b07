//! PLAIN (RFC 4616), with the messages of Kafka's PlainSaslServer.

use super::{AuthError, Proved, Users};

pub(super) async fn check(users: &Users, token: &[u8]) -> Result<Proved, AuthError> {
    let (authorization, user, password) = parse(token)?;
    if !users.is_password(&user, password).await {
        return Err(AuthError::told("Authentication failed: Invalid username or password").of(&user));
    }
    if !authorization.is_empty() && authorization != user {
        let message = "Authentication failed: Client requested an authorization id that is different from username";
        return Err(AuthError::told(message).of(&user));
    }
    Ok(Proved { name: user, token: Vec::new(), until_ms: None })
}

/// Authorization id, user, password.
fn parse(token: &[u8]) -> Result<(String, String, String), AuthError> {
    let text = std::str::from_utf8(token).map_err(|_| AuthError::hidden("the token is not UTF-8"))?;
    let parts: Vec<&str> = text.split('\0').collect();
    let [authorization, user, password] = parts.as_slice() else {
        let message = format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", parts.len());
        return Err(AuthError::told(message));
    };
    if user.is_empty() {
        return Err(AuthError::told("Authentication failed: username not specified"));
    }
    if password.is_empty() {
        return Err(AuthError::told("Authentication failed: password not specified").of(user));
    }
    Ok(((*authorization).to_owned(), (*user).to_owned(), (*password).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_tokens_are_told_apart_as_kafka_does() {
        for (token, told) in [
            (&b"\0alice"[..], Some("Invalid SASL/PLAIN response: expected 3 tokens, got 2")),
            (b"\0alice\0a\0", Some("Invalid SASL/PLAIN response: expected 3 tokens, got 4")),
            (b"\0\0a", Some("Authentication failed: username not specified")),
            (b"\0alice\0", Some("Authentication failed: password not specified")),
            (b"\0ali\xffce\0a", None),
        ] {
            assert_eq!(parse(token).expect_err("refused").told.as_deref(), told);
        }
        let (authorization, user, password) = parse(b"x\0alice\0a b").expect("well-formed");
        assert_eq!((authorization.as_str(), user.as_str(), password.as_str()), ("x", "alice", "a b"));
    }
}
