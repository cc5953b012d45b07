//! Tag expressions, as RocketMQ's `FilterAPI` reads them: `*`, or tags joined by `||`.

/// A set of tags, or all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*` or nothing: every record, tagged or not.
    All,
    /// Records that carry one of these.
    AnyOf(Vec<String>),
}

impl Tags {
    /// Reads a tag expression; `None` when the text is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text == "*" {
            return Some(Tags::All);
        }
        let tags: Vec<String> = split(text).map(str::to_owned).collect();
        let plain = tags.iter().all(|tag| tag.chars().all(is_tag_char));
        (plain && !tags.is_empty()).then_some(Tags::AnyOf(tags))
    }

    /// True when a record with this `TAGS` header is let through. The header may hold several tags.
    pub fn matches(&self, header: Option<&[u8]>) -> bool {
        match self {
            Tags::All => true,
            Tags::AnyOf(wanted) => {
                let Some(Ok(header)) = header.map(std::str::from_utf8) else { return false };
                split(header).any(|tag| wanted.iter().any(|wanted| wanted == tag))
            }
        }
    }
}

/// The tags in a `TAGS` header or a tag expression.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split("||").map(str::trim).filter(|tag| !tag.is_empty())
}

fn is_tag_char(c: char) -> bool {
    !c.is_whitespace() && !"'\"()=<>!|,*".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_joined_by_bars_are_tags_and_anything_else_is_not() {
        assert_eq!(Tags::parse("*"), Some(Tags::All));
        assert_eq!(Tags::parse("  "), Some(Tags::All));
        assert_eq!(Tags::parse("paid"), Some(Tags::AnyOf(vec!["paid".into()])));
        assert_eq!(Tags::parse(" paid || re-funded "), Some(Tags::AnyOf(vec!["paid".into(), "re-funded".into()])));
        for sql in ["a = 1", "a IS NULL", "(a)", "a|b", "'x'", "a || b c"] {
            assert_eq!(Tags::parse(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_record_matches_by_any_of_its_tags() {
        let tags = Tags::parse("paid||refunded").expect("tags");
        assert!(tags.matches(Some(b"paid")));
        assert!(tags.matches(Some(b"new || refunded")));
        assert!(!tags.matches(Some(b"pai")));
        assert!(!tags.matches(Some(b"")));
        assert!(!tags.matches(None));
        assert!(!tags.matches(Some(&[0xff])));
        assert!(Tags::All.matches(None));
    }
}
