//! Which feature rules make no sense.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use globset::{Glob, GlobMatcher};

use crate::rules::{Backoff, HalfRules, Prefixes, Retry, Rule, ScheduleRules};
use crate::schema::Config;

/// Names that start so are krocket's own and nobody else's.
pub const HIDDEN: &str = "__krocket";
/// Kafka's longest topic name.
const MAX_NAME: usize = 249;
/// Longest list of delay levels or back-off steps.
const MAX_STEPS: usize = 1000;
/// Most partitions of a retry topic: a typing error is not to cost a million partitions.
const MAX_PARTITIONS: i32 = 10_000;

/// A step to a value in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A table's key.
    Key(&'static str),
    /// A list's item.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Self {
        Step::Key(key)
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// What is wrong with a rule, and where. [`Loaded::fault`](crate::Loaded::fault) shows the place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub path: Vec<Step>,
    /// Where in the text that stands there, in characters from 1.
    pub column: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    /// At this place.
    pub fn new(path: impl Into<Vec<Step>>, message: impl Into<String>) -> Self {
        Fault { path: path.into(), column: None, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        for (at, step) in self.path.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => write!(out, "{key}")?,
                Step::Key(key) => write!(out, ".{key}")?,
                Step::Index(index) => write!(out, "[{index}]")?,
            }
        }
        write!(out, ": {}", self.message)
    }
}

impl std::error::Error for Fault {}

type Checked = Result<(), Fault>;

/// Everything about rules that the types cannot say, except filters' text.
pub(crate) fn rules(config: &Config) -> Checked {
    names(&config.names)?;
    for (index, rule) in config.rules.iter().enumerate() {
        globs("rules", index, "topics", &rule.topics)?;
        topic(index, rule)?;
    }
    never_matching("rules", "topics", config.rules.iter().map(|rule| rule.topics.as_slice()))?;
    for (index, retry) in config.retry.iter().enumerate() {
        globs("retry", index, "groups", &retry.groups)?;
        policy(index, retry)?;
    }
    never_matching("retry", "groups", config.retry.iter().map(|retry| retry.groups.as_slice()))?;
    views(config)
}

/// A glob, or what is wrong with it.
pub(crate) fn glob(text: &str) -> Result<Glob, String> {
    if text.is_empty() {
        return Err("an empty glob matches nothing".to_owned());
    }
    Glob::new(text).map_err(|error| format!("\"{text}\" is not a glob: {}", error.kind()))
}

fn globs(section: &'static str, index: usize, key: &'static str, globs: &[String]) -> Checked {
    let list = vec![section.into(), index.into(), key.into()];
    if globs.is_empty() {
        return Err(Fault::new(list, format!("`{key}` is empty, so this would hold for nothing")));
    }
    for (place, text) in globs.iter().enumerate() {
        let path = [list.as_slice(), &[place.into()]].concat();
        glob(text).map_err(|message| Fault::new(path, message))?;
    }
    Ok(())
}

/// Refuses an entry for whose every glob an earlier entry comes first.
fn never_matching<'a>(
    section: &'static str,
    key: &'static str,
    entries: impl Iterator<Item = &'a [String]>,
) -> Checked {
    let mut earlier: Vec<(&str, GlobMatcher)> = Vec::new();
    for (index, globs) in entries.enumerate() {
        let literal = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let covered = |text: &str| {
            earlier
                .iter()
                .any(|(other, matcher)| *other == text || *other == "*" || literal(text) && matcher.is_match(text))
        };
        if globs.iter().all(|text| covered(text)) {
            let message = "this can never match: an earlier entry holds for all of it (the first match wins)";
            return Err(Fault::new([section.into(), index.into(), key.into()], message));
        }
        let matchers = globs.iter().filter_map(|text| Some((text.as_str(), glob(text).ok()?.compile_matcher())));
        earlier.extend(matchers);
    }
    Ok(())
}

fn topic(index: usize, rule: &Rule) -> Checked {
    let fault =
        |path: &[Step], message: String| Err(Fault::new([&["rules".into(), index.into()], path].concat(), message));
    if let Some(ScheduleRules { max_delay, levels }) = &rule.schedule.0 {
        if max_delay.is_zero() {
            return fault(
                &["schedule".into(), "max_delay".into()],
                "`max_delay` must not be zero; schedule = false switches delays off".to_owned(),
            );
        }
        let at: Step = "levels".into();
        if levels.is_empty() || levels.len() > MAX_STEPS {
            return fault(&["schedule".into(), at], format!("`levels` must have 1 to {MAX_STEPS} durations"));
        }
        let own = *levels != ScheduleRules::default().levels;
        if let Some(level) = levels.iter().position(|level| own && level > max_delay) {
            return fault(&["schedule".into(), at, level.into()], "this level is longer than `max_delay`".to_owned());
        }
    }
    if let Some(HalfRules { check_interval, max_checks, webhook, .. }) = &rule.half.0 {
        if *check_interval < Duration::from_millis(100) {
            return fault(
                &["half".into(), "check_interval".into()],
                "`check_interval` must be at least 100ms".to_owned(),
            );
        }
        if *max_checks == 0 {
            return fault(&["half".into(), "max_checks".into()], "`max_checks` must be at least 1".to_owned());
        }
        let usable = |url: &str| {
            let host = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?']).next());
            host.is_some_and(|host| !host.is_empty() && !host.contains('@')) && !url.contains(char::is_whitespace)
        };
        if let Some(url) = webhook.as_deref().filter(|url| !usable(url)) {
            let message =
                format!("\"{url}\" is not an URL such as \"http://127.0.0.1:8080/check\" (only http is spoken)");
            return fault(&["half".into(), "webhook".into()], message);
        }
    }
    Ok(())
}

fn policy(index: usize, retry: &Retry) -> Checked {
    let fault =
        |path: &[Step], message: String| Err(Fault::new([&["retry".into(), index.into()], path].concat(), message));
    match &retry.backoff {
        Backoff::Steps(steps) if steps.len() > MAX_STEPS => {
            return fault(&["backoff".into(), "steps".into()], format!("at most {MAX_STEPS} steps"));
        }
        Backoff::Steps(_) => {}
        Backoff::Exponential { initial, multiplier, max, jitter } => {
            if initial.is_zero() {
                return fault(&["backoff".into(), "initial".into()], "`initial` must not be zero".to_owned());
            }
            if !(1.0..=1e6).contains(multiplier) {
                let message = format!("`multiplier` is {multiplier}; it must be from 1 to 1000000");
                return fault(&["backoff".into(), "multiplier".into()], message);
            }
            if max < initial {
                return fault(&["backoff".into(), "max".into()], "`max` must be at least `initial`".to_owned());
            }
            if !(0.0..=1.0).contains(jitter) {
                let message = format!("`jitter` is {jitter}; it must be from 0 to 1 (0.2 is give or take 20 %)");
                return fault(&["backoff".into(), "jitter".into()], message);
            }
        }
    }
    if !(1..=MAX_PARTITIONS).contains(&retry.partitions) {
        return fault(&["partitions".into()], format!("`partitions` must be from 1 to {MAX_PARTITIONS}"));
    }
    if retry.max_dead_per_minute == Some(0) {
        let message = "`max_dead_per_minute` must be at least 1, or no message could ever leave";
        return fault(&["max_dead_per_minute".into()], message.to_owned());
    }
    Ok(())
}

/// What Kafka's Topic.validate says of a name.
fn topic_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "." || name == ".." || name.len() > MAX_NAME || !name.chars().all(legal) {
        return Err(format!(
            "\"{name}\" is not a topic name: 1 to {MAX_NAME} of the letters a-z and A-Z, digits, `.`, `_` and `-`"
        ));
    }
    if name.starts_with(HIDDEN) {
        return Err(format!("names that start with {HIDDEN} are krocket's own"));
    }
    Ok(())
}

fn names(names: &Prefixes) -> Checked {
    let all = [("retry", &names.retry), ("dlq", &names.dlq), ("check", &names.check)];
    for (key, prefix) in all {
        let path = || ["names".into(), key.into()];
        topic_name(prefix).map_err(|message| Fault::new(path(), message))?;
        if prefix.len() > 32 {
            return Err(Fault::new(path(), "a prefix has at most 32 characters: the group's id follows it"));
        }
        if let Some((other, _)) = all.iter().find(|(other, text)| *other != key && prefix.starts_with(text.as_str())) {
            let message = format!("starts with `{other}`'s prefix, so krocket could not tell their topics apart");
            return Err(Fault::new(path(), message));
        }
    }
    Ok(())
}

fn views(config: &Config) -> Checked {
    for (index, view) in config.views.iter().enumerate() {
        let fault =
            |key: &'static str, message: String| Err(Fault::new(["views".into(), index.into(), key.into()], message));
        for (key, name) in [("name", &view.name), ("source", &view.source)] {
            if let Err(message) = topic_name(name) {
                return fault(key, message);
            }
        }
        if view.name == view.source {
            return fault("source", "a view cannot be its own source".to_owned());
        }
        if config.names.kind(&view.name).is_some() {
            return fault("name", format!("\"{}\" starts with a prefix of krocket's own topics", view.name));
        }
        if config.views[..index].iter().any(|other| other.name == view.name) {
            return fault("name", format!("there is another view \"{}\"", view.name));
        }
        if config.views.iter().any(|other| other.name == view.source) {
            return fault("source", format!("\"{}\" is a view itself; name the topic that it shows", view.source));
        }
        let matching = |rule: &&Rule| {
            let matches = |text: &String| glob(text).is_ok_and(|glob| glob.compile_matcher().is_match(&view.source));
            rule.topics.iter().any(matches)
        };
        if config.rules.iter().find(matching).is_some_and(|rule| !rule.filter) {
            return fault("source", format!("a rule has filter = false for \"{}\"", view.source));
        }
    }
    Ok(())
}
