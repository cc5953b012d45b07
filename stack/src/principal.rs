//! Whom a client proved to be (Kafka's KafkaPrincipal).

use std::borrow::Cow;
use std::fmt;

/// A user, written `User:name` in ACLs and quotas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The user's name: of SASL, or the subject of a TLS certificate.
    pub name: Cow<'static, str>,
}

impl Principal {
    /// The one kind of principal that Kafka's own authenticators make.
    pub const KIND: &'static str = "User";

    /// Who did not have to say who they are.
    pub const ANONYMOUS: Principal = Principal { name: Cow::Borrowed("ANONYMOUS") };

    /// The user of this name.
    pub fn user(name: impl Into<String>) -> Self {
        Principal { name: Cow::Owned(name.into()) }
    }

    /// Reads `User:name`; nothing where the kind is another.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some((Self::KIND, name)) if !name.is_empty() => Some(Principal::user(name)),
            _ => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}:{}", Self::KIND, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_kafka_writes_it() {
        let alice = Principal::user("alice");
        assert_eq!(alice.to_string(), "User:alice");
        assert_eq!(Principal::parse("User:alice"), Some(alice));
        assert_eq!(Principal::parse("User:CN=a,O=b:c").map(|it| it.name.into_owned()), Some("CN=a,O=b:c".to_owned()));
        for text in ["alice", "Group:x", "User:", ""] {
            assert_eq!(Principal::parse(text), None, "{text}");
        }
    }
}
