//! Regular expressions that clients send, as Kafka reads them: RE2J's, matched against whole names.

use std::borrow::Cow;

use regex::Regex;

/// Compiles an expression that has to match a whole name.
pub(crate) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    let pattern = unquoted(pattern);
    // Checked alone first: `a)(b` must not become valid by what is put round it.
    Regex::new(&pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

/// `\Q` quotes up to `\E` or the end (Java's `Pattern.quote` makes that): the regex crate knows only single escapes.
fn unquoted(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains(r"\Q") {
        return pattern.into();
    }
    let (mut out, mut rest) = (String::new(), pattern);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            rest = after;
        } else {
            let escape = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
            out.push_str(&rest[..escape]);
            rest = &rest[escape..];
        }
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        for (pattern, name, matches) in [
            ("foo", "foo", true),
            ("foo", "foobar", false),
            ("foo|bar", "bar", true),
            ("foo|bar", "foobar", false),
            (r"\Qa.b(\E.*", "a.b(c", true),
            (r"\Qa.b\E", "axb", false),
            (r"\Qa.b", "a.b", true),
            (r"\\Qx", r"\Qx", true),
            (r"ä\.\Q*\E", "ä.*", true),
        ] {
            assert_eq!(whole(pattern).expect("compiles").is_match(name), matches, "{pattern} and {name}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for pattern in ["(", "a)(b", "[", "*", r"\Qa\E)(", "\\"] {
            assert!(whole(pattern).is_err(), "{pattern}");
        }
    }
}
