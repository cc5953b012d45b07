//! Subscriptions by regular expression, resolved by the broker (KIP-848).

use std::collections::BTreeSet;

use krocket_protocol::ErrorCode;
use regex::Regex;

use crate::group::error::Refusal;
use crate::pattern;

/// Compiles a client's expression. It has to match the whole name.
pub(super) fn compile(regex: &str) -> Result<Regex, Refusal> {
    pattern::whole(regex).map_err(|error| {
        let why = error.to_string().replace('\n', " ");
        Refusal::new(
            ErrorCode::InvalidRegularExpression,
            format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {why}."),
        )
    })
}

/// The topics that an expression matches. One that does not compile matches none: it was checked when it came.
pub(super) fn resolve(regex: &str, names: &[String]) -> BTreeSet<String> {
    match compile(regex) {
        Ok(compiled) => names.iter().filter(|name| compiled.is_match(name)).cloned().collect(),
        Err(_) => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        let names: Vec<String> = ["foo", "foobar", "bar", "xfoo"].map(str::to_owned).into();
        for (regex, expected) in [
            ("foo", vec!["foo"]),
            ("foo.*", vec!["foo", "foobar"]),
            ("foo|bar", vec!["bar", "foo"]),
            ("^foo$", vec!["foo"]),
            ("(?i)FOO", vec!["foo"]),
            ("nothing", vec![]),
        ] {
            assert_eq!(resolve(regex, &names).into_iter().collect::<Vec<_>>(), expected, "{regex}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for regex in ["(", "a)(b", "[", "*"] {
            let refusal = compile(regex).expect_err(regex);
            assert_eq!(refusal.code, ErrorCode::InvalidRegularExpression);
            assert!(refusal.message.contains(regex) && !refusal.message.contains('\n'), "{}", refusal.message);
        }
    }
}
