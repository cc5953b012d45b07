//! OAUTHBEARER (RFC 7628, KIP-255): a token in the first message; a refusal takes one more round.

use super::tokens::Tokens;
use super::{AuthError, Exchange, Proved, Step};

/// What separates the parts of a message.
const SEPARATOR: char = '\u{1}';
/// RFC 7628's word for every token that does not do.
const REFUSED: &str = r#"{"status":"invalid_token"}"#;

pub(super) async fn check(tokens: &Tokens, message: &[u8]) -> Result<Step, AuthError> {
    let (authorization, token) =
        parse(message).ok_or_else(|| AuthError::hidden("the client's OAUTHBEARER message is malformed"))?;
    match tokens.validate(token).await {
        Ok(valid) if !authorization.is_empty() && authorization != valid.name => {
            let message = format!(
                "Authentication failed: Client requested an authorization id ({authorization}) that is different from \
                 the token's principal name ({})",
                valid.name
            );
            Err(AuthError::told(message).of(&valid.name))
        }
        Ok(valid) => Ok(Step::Done(Proved { name: valid.name, token: Vec::new(), until_ms: Some(valid.until_ms) })),
        Err(reason) => {
            let failed = Exchange::BearerFailed { error: REFUSED.to_owned(), reason };
            Ok(Step::Challenge(failed, REFUSED.as_bytes().to_vec()))
        }
    }
}

/// Authorization id and token.
fn parse(message: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split(SEPARATOR);
    let header = parts.next()?;
    let authorization = match header.strip_prefix("n,")?.strip_suffix(',')? {
        "" => "",
        text => text.strip_prefix("a=")?,
    };
    let mut token = None;
    for pair in parts.filter(|part| !part.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        if key == "auth" {
            let (kind, given) = value.split_once(' ')?;
            token = Some(given.trim()).filter(|given| kind.eq_ignore_ascii_case("bearer") && !given.is_empty());
        }
    }
    // Two separators end it.
    text.ends_with("\u{1}\u{1}").then_some((authorization, token?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_the_rfc_says() {
        for (message, expected) in [
            ("n,,\u{1}auth=Bearer abc\u{1}\u{1}", Some(("", "abc"))),
            ("n,a=alice,\u{1}host=x\u{1}auth=bearer abc\u{1}\u{1}", Some(("alice", "abc"))),
            ("n,,\u{1}auth=Basic abc\u{1}\u{1}", None),
            ("n,,\u{1}auth=Bearer abc\u{1}", None),
            ("n,,\u{1}\u{1}", None),
            ("y,,\u{1}auth=Bearer abc\u{1}\u{1}", None),
            ("", None),
        ] {
            assert_eq!(parse(message.as_bytes()), expected, "{message:?}");
        }
    }
}
