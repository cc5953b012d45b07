//! Group ids in topic names, reversibly: topic names know fewer characters.

use std::fmt::Write;

/// Kafka's limit of a topic name.
const MAX_NAME: usize = 249;
/// Begins the spelling of a byte that a topic name cannot have, or of itself: `_x` and two hexadecimal digits.
const ESCAPE: &str = "_x";

/// `prefix` and a group id as a topic name; `None` where that is too long.
pub fn topic(prefix: &str, group: &str) -> Option<String> {
    let mut name = prefix.to_owned();
    let bytes = group.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let own_escape = bytes[at..].starts_with(ESCAPE.as_bytes());
        if (byte.is_ascii_alphanumeric() || b"._-".contains(byte)) && !own_escape {
            name.push(char::from(*byte));
        } else {
            let _ = write!(name, "{ESCAPE}{byte:02x}");
        }
    }
    (name.len() <= MAX_NAME && !group.is_empty()).then_some(name)
}

/// The group id of a topic that [`topic`] named; `None` for any other.
pub fn group(prefix: &str, name: &str) -> Option<String> {
    let mut rest = name.strip_prefix(prefix)?;
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(first) = rest.as_bytes().first() {
        match rest.strip_prefix(ESCAPE) {
            Some(after) => {
                bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = rest.get(1..)?;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|group| topic(prefix, group).as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_comes_back() {
        for (id, name) in [
            ("billing", "retry.billing"),
            ("a.b_c-D9", "retry.a.b_c-D9"),
            ("a b", "retry.a_x20b"),
            ("_x20", "retry._x5fx20"),
            ("grün/ä", "retry.gr_xc3_xbcn_x2f_xc3_xa4"),
            ("__x", "retry.__x5fx"),
        ] {
            assert_eq!(topic("retry.", id).as_deref(), Some(name), "{id}");
            assert_eq!(group("retry.", name).as_deref(), Some(id), "{name}");
        }
    }

    #[test]
    fn what_is_no_spelling_of_ours_is_no_group() {
        for name in ["retry.", "other.a", "retry.a_x2", "retry.a_xZZ", "retry.a_x61", "retry._xff"] {
            assert_eq!(group("retry.", name), None, "{name}");
        }
        assert_eq!(topic("retry.", &"x".repeat(250)), None);
        assert_eq!(topic("retry.", ""), None);
    }
}
