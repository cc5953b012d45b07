//! SCRAM (RFC 5802), the server's side, without channel binding.

use std::sync::Arc;

use aws_lc_rs::{constant_time, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use krocket_stack::security::{ScramCredential, ScramMechanism};

use super::{AuthError, Exchange, Proved, Step, Users};

/// Random bytes in the server's part of the nonce.
const NONCE: usize = 24;

/// What is remembered between the client's two messages.
pub(super) struct Final {
    mechanism: ScramMechanism,
    user: String,
    credential: Arc<ScramCredential>,
    /// The client's message without its GS2 header.
    first_bare: String,
    gs2: String,
    server_first: String,
    /// The client's part, and both parts.
    nonces: [String; 2],
}

/// Answers the client's first message.
pub(super) fn first(users: &Users, mechanism: ScramMechanism, token: &[u8]) -> Result<Step, AuthError> {
    let first = First::parse(token)?;
    let user = first.user;
    if first.bare.split(',').any(|attribute| attribute.eq_ignore_ascii_case("tokenauth=true")) {
        return Err(AuthError::hidden("delegation tokens are not served").of(&user));
    }
    if !first.authorization.is_empty() && first.authorization != user {
        let message = "Authentication failed: Client requested an authorization id that is different from username";
        return Err(AuthError::told(message).of(&user));
    }
    let mut random = [0; NONCE];
    rand::fill(&mut random).map_err(|_| AuthError::hidden("the system has no random numbers").of(&user))?;
    let nonce = format!("{}{}", first.nonce, BASE64.encode(random));
    let credential = users.scram(&user, mechanism);
    let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&credential.salt), credential.iterations);
    let answer = server_first.clone().into_bytes();
    let (first_bare, gs2, nonces) = (first.bare, first.gs2, [first.nonce, nonce]);
    let last = Final { mechanism, user, credential, first_bare, gs2, server_first, nonces };
    Ok(Step::Challenge(Exchange::ScramFinal(Box::new(last)), answer))
}

struct First {
    gs2: String,
    authorization: String,
    bare: String,
    user: String,
    nonce: String,
}

impl First {
    fn parse(token: &[u8]) -> Result<Self, AuthError> {
        First::read(token).ok_or_else(|| AuthError::hidden("the client's first SCRAM message is malformed"))
    }

    fn read(token: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(token).ok()?;
        let (flag, rest) = text.split_once(',')?;
        let (authorization, bare) = rest.split_once(',')?;
        // A client that needs channel binding (p=) cannot be served.
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let name = match authorization {
            "" => "",
            text => text.strip_prefix("a=")?,
        };
        let mut attributes = bare.split(',');
        let user = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let printable = |c: char| c.is_ascii_graphic();
        if user.is_empty() || nonce.is_empty() || !nonce.chars().all(printable) {
            return None;
        }
        Some(First {
            gs2: text[..text.len() - bare.len()].to_owned(),
            authorization: unescape(name)?,
            bare: bare.to_owned(),
            user,
            nonce: nonce.to_owned(),
        })
    }
}

/// `=2C` is a comma and `=3D` an equals sign; other equals signs are mistakes.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        out.push(c);
        out.push_str(rest);
    }
    Some(out)
}

impl Final {
    /// Checks the client's last message; the answer proves the server.
    pub(super) fn check(self, token: &[u8]) -> Result<Proved, AuthError> {
        let refuse = |reason: &str| AuthError::hidden(reason).of(&self.user);
        let malformed = || refuse("the client's last SCRAM message is malformed");
        let text = std::str::from_utf8(token).map_err(|_| malformed())?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(malformed)?;
        let proof = BASE64.decode(proof).map_err(|_| malformed())?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|it| it.strip_prefix("c=")).ok_or_else(malformed)?;
        let nonce = attributes.next().and_then(|it| it.strip_prefix("r=")).ok_or_else(malformed)?;
        // Kafka's Java client says "n,," here whatever it said before.
        let binding = BASE64.decode(binding).map_err(|_| malformed())?;
        if binding != self.gs2.as_bytes() && binding != b"n,," {
            return Err(refuse("the channel binding is not the one of the first message"));
        }
        // librdkafka before 2.6.1, which kcat often has, puts its own part before both. What must not be missing is ours.
        let [own, both] = &self.nonces;
        if nonce != both && nonce.strip_prefix(own.as_str()) != Some(both) {
            return Err(refuse("the nonce is not the one of this exchange"));
        }
        let message = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let signature = self.mechanism.hmac(&self.credential.stored_key, message.as_bytes());
        if proof.len() != signature.len() {
            return Err(malformed());
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let stored_key = self.mechanism.hash(&client_key);
        if constant_time::verify_slices_are_equal(&stored_key, &self.credential.stored_key).is_err() {
            return Err(refuse("no such user, or another password"));
        }
        let signature = self.mechanism.hmac(&self.credential.server_key, message.as_bytes());
        let token = format!("v={}", BASE64.encode(signature)).into_bytes();
        Ok(Proved { name: self.user, token, until_ms: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc_is_proved() {
        let mechanism = ScramMechanism::Sha256;
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let credential = mechanism.credential(&mechanism.salted(b"pencil", &salt, 4096), salt, 4096);
        let last = |proof: &str| {
            let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
            let server_first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
            let exchange = Final {
                mechanism,
                user: "user".to_owned(),
                credential: Arc::new(credential.clone()),
                first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
                gs2: "n,,".to_owned(),
                server_first,
                nonces: ["rOprNGfwEbeRWgbNEkqO".to_owned(), nonce.to_owned()],
            };
            exchange.check(format!("c=biws,r={nonce},p={proof}").as_bytes())
        };
        let proved = last("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").expect("proved");
        assert_eq!(proved.token, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        for wrong in ["dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=", "", "dHzb", "?"] {
            assert!(last(wrong).is_err_and(|error| error.told.is_none()), "{wrong}");
        }
    }

    #[test]
    fn old_librdkafkas_nonce_is_taken_and_one_without_the_servers_part_is_not() {
        let mechanism = ScramMechanism::Sha512;
        let salted = mechanism.salted(b"pencil", b"salt", 4096);
        let credential = mechanism.credential(&salted, b"salt".to_vec(), 4096);
        for (nonce, good) in [("abcdef", true), ("abcabcdef", true), ("abc", false), ("xabcdef", false), ("", false)] {
            let exchange = Final {
                mechanism,
                user: "user".to_owned(),
                credential: Arc::new(credential.clone()),
                first_bare: "n=user,r=abc".to_owned(),
                gs2: "n,,".to_owned(),
                server_first: "r=abcdef,s=c2FsdA==,i=4096".to_owned(),
                nonces: ["abc".to_owned(), "abcdef".to_owned()],
            };
            let message = format!("{},{},c=biws,r={nonce}", exchange.first_bare, exchange.server_first);
            let signature = mechanism.hmac(&credential.stored_key, message.as_bytes());
            let client_key = mechanism.hmac(&salted, b"Client Key");
            let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
            let last = format!("c=biws,r={nonce},p={}", BASE64.encode(proof));
            assert_eq!(exchange.check(last.as_bytes()).is_ok(), good, "{nonce:?}");
        }
    }

    #[test]
    fn first_messages_are_read_as_the_rfc_says() {
        let first = First::read(b"n,a=al=2Cice,n=al=2Cice,r=abc,tokenauth=false").expect("well-formed");
        assert_eq!(
            (first.user.as_str(), first.authorization.as_str(), first.nonce.as_str()),
            ("al,ice", "al,ice", "abc")
        );
        assert_eq!((first.gs2.as_str(), first.bare.as_str()), ("n,a=al=2Cice,", "n=al=2Cice,r=abc,tokenauth=false"));
        for malformed in ["", "n,,", "n,,n=,r=a", "n,,n=a", "n,,n=a,r=", "p=x,,n=a,r=b", "n,x,n=a,r=b", "n,,n=a=b,r=c"]
        {
            assert!(First::read(malformed.as_bytes()).is_none(), "{malformed}");
        }
    }
}
