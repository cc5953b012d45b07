//! What is wrong, where, and what was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use crate::check::{Fault, Step};

/// A file's name and text.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// True when the file sets this key.
    pub(crate) fn sets(&self, section: &str, key: &str) -> bool {
        span_of(&self.text, section, key).is_some()
    }
}

/// Why a configuration is refused. `Display` shows the place with the line and a caret.
#[derive(Clone, Debug, Error)]
pub struct ConfigError {
    /// The file with line and column, the variable, or the flag.
    pub origin: String,
    /// What is wrong.
    pub message: String,
    excerpt: Option<Excerpt>,
}

#[derive(Clone, Debug)]
struct Excerpt {
    line: usize,
    text: String,
    marked: Range<usize>,
}

impl ConfigError {
    pub(crate) fn without_place(origin: &str, message: impl Into<String>) -> Self {
        ConfigError { origin: origin.to_owned(), message: message.into(), excerpt: None }
    }

    pub(crate) fn from_override(origin: &str, error: &toml::de::Error) -> Self {
        ConfigError::without_place(origin, rephrase(error.message()))
    }

    pub(crate) fn from_toml(source: &Source, error: &toml::de::Error) -> Self {
        let message = rephrase(error.message());
        match error.span() {
            Some(span) => ConfigError::at(source, span, message),
            None => ConfigError::without_place(&source.path.display().to_string(), message),
        }
    }

    /// Points at a key of the file, or at the file when the key is not in it.
    pub(crate) fn at_key(source: &Source, section: &str, key: &str, message: impl Into<String>) -> Self {
        match span_of(&source.text, section, key) {
            Some(span) => ConfigError::at(source, span, message.into()),
            None => ConfigError::without_place(&source.path.display().to_string(), message),
        }
    }

    /// Points at a value of the file, at a place in it, or at as much of the path as the file has.
    pub(crate) fn at_path(source: &Source, fault: &Fault) -> Self {
        match span_of_path(&source.text, &fault.path) {
            Some(span) => {
                let span = fault.column.and_then(|column| place_in_text(&source.text, &span, column)).unwrap_or(span);
                ConfigError::at(source, span, fault.message.clone())
            }
            None => ConfigError::without_place(&source.path.display().to_string(), fault.message.clone()),
        }
    }

    fn at(source: &Source, span: Range<usize>, message: String) -> Self {
        let start = source.text.floor_char_boundary(span.start.min(source.text.len()));
        let line_start = source.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let text = source.text[line_start..].lines().next().unwrap_or_default().to_owned();
        let line = source.text[..line_start].matches('\n').count() + 1;
        let column = source.text[line_start..start].chars().count();
        let width =
            source.text.get(start..span.end.min(line_start + text.len())).map_or(1, |text| text.chars().count());
        ConfigError {
            origin: format!("{}:{line}:{}", source.path.display(), column + 1),
            message,
            excerpt: Some(Excerpt { line, text, marked: column..column + width.max(1) }),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}: {}", self.origin, self.message)?;
        if let Some(Excerpt { line, text, marked }) = &self.excerpt {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            // Tabs are kept so that the caret stands below its column.
            let indent: String = text.chars().take(marked.start).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let caret = "^".repeat(marked.len());
            write!(out, "\n{gutter} |\n{number} | {text}\n{gutter} | {indent}{caret}")?;
        }
        Ok(())
    }
}

/// Where a key of a section stands, its value included. Dotted keys are nested tables.
fn span_of(text: &str, section: &str, key: &str) -> Option<Range<usize>> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let table = document.get_ref().iter().find(|(name, _)| name.get_ref() == section)?.1;
    find_key(table.get_ref().as_table()?, key)
}

fn find_key(table: &toml::de::DeTable<'_>, key: &str) -> Option<Range<usize>> {
    table.iter().find_map(|(name, value)| {
        let name_text: &str = name.get_ref();
        if name_text == key {
            return Some(name.span().start..value.span().end);
        }
        let rest = key.strip_prefix(name_text)?.strip_prefix('.')?;
        find_key(value.get_ref().as_table()?, rest)
    })
}

fn span_of_path(text: &str, path: &[Step]) -> Option<Range<usize>> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (first, rest) = path.split_first()?;
    let Step::Key(section) = first else { return None };
    let (name, mut value) = document.get_ref().iter().find(|(name, _)| name.get_ref() == section)?;
    let mut span = name.span();
    for step in rest {
        let next = match step {
            Step::Key(key) => {
                { value.get_ref().as_table().and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key)) }
                    .map(|(_, value)| value)
            }
            Step::Index(index) => value.get_ref().as_array().and_then(|array| array.get(*index)),
        };
        let Some(next) = next else { break };
        value = next;
        span = value.span();
    }
    Some(span)
}

/// Where a character of a text stands in the file: the text's literal has quotes and perhaps escapes.
fn place_in_text(file: &str, literal: &Range<usize>, column: usize) -> Option<Range<usize>> {
    let raw = file.get(literal.clone())?;
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let open = if raw.starts_with(&quote.to_string().repeat(3)) { 3 } else { 1 };
    let mut at = open;
    if open == 3 {
        // A line break right after the quotes is not of the text.
        at += raw[at..].strip_prefix("\r\n").map_or(raw[at..].starts_with('\n') as usize, |_| 2);
    }
    for _ in 1..column {
        at += match raw[at..].strip_prefix('\\').filter(|_| quote == '"') {
            Some(escape) => match escape.chars().next()? {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                _ => 2,
            },
            None => raw[at..].chars().next()?.len_utf8(),
        };
    }
    let start = literal.start + at.min(raw.len().saturating_sub(open));
    Some(start..start + 1)
}

/// serde's words for an unknown key, made ours, with the nearest known key.
fn rephrase(message: &str) -> String {
    let message = message.trim_end();
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.to_owned() };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return message.to_owned() };
    let known: Vec<&str> = names.collect();
    match nearest(unknown, &known) {
        Some(near) => format!("unknown key `{unknown}`, did you mean `{near}`?"),
        None => format!("unknown key `{unknown}`, expected one of {}", known.join(", ")),
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), *name));
    scored.min().filter(|(distance, name)| *distance <= 1 + name.len() / 4).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Config;

    fn refuse(text: &str) -> String {
        let source = Source { path: "krocket.toml".into(), text: text.to_owned() };
        let error = toml::from_str::<Config>(text).expect_err("must be refused");
        ConfigError::from_toml(&source, &error).to_string()
    }

    #[test]
    fn a_misspelt_key_is_shown_with_the_right_one() {
        assert_eq!(
            refuse("[server]\nnode_id = 1\nlisen = \"127.0.0.1:1\"\n"),
            "krocket.toml:3:1: unknown key `lisen`, did you mean `listen`?\n  |\n3 | lisen = \"127.0.0.1:1\"\n  | ^^^^^"
        );
        assert!(refuse("[sever]\n").contains("unknown key `sever`, did you mean `server`?"));
        assert!(refuse("[server]\nfoo = 1\n").contains("unknown key `foo`, expected one of node_id, listen,"));
    }

    #[test]
    fn a_bad_value_is_marked() {
        assert_eq!(
            refuse("[limits]\nidle = \"10 minutes\"\n"),
            "krocket.toml:2:8: \"10 minutes\" is not a duration such as \"500ms\", \"30s\", \"10m\", \"1h\" or \"7d\"\n  |\n\
             2 | idle = \"10 minutes\"\n  |        ^^^^^^^^^^^^"
        );
        for text in [
            "[server]\nlisten = \"localhost\"\n",
            "[server]\nnode_id = \"one\"\n",
            "[limits]\nrequest_bytes = -1\n",
            "[limits]\nrequest_bytes = \"1 MB\"\n",
            "[server]\nadvertised = \":9092\"\n",
            "[logging]\nformat = \"xml\"\n",
            "[kafka]\n\"a.b\" = [1]\n",
            "[server\n",
        ] {
            let message = refuse(text);
            assert!(message.contains('^') && message.contains(":2:") || message.contains(":1:"), "{message}");
        }
    }

    #[test]
    fn a_key_is_found_by_section_and_name() {
        let text = "[kafka]\nlog.retention.ms = 1\n\"num.partitions\" = 0\n";
        let source = Source { path: "f".into(), text: text.to_owned() };
        for (key, place) in [("log.retention.ms", "f:2:"), ("num.partitions", "f:3:1"), ("absent", "f")] {
            let error = ConfigError::at_key(&source, "kafka", key, "wrong");
            assert!(error.origin.starts_with(place), "{key}: {error}");
        }
    }
}
