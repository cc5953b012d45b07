//! File, then environment, then flags.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::check::{Fault, Step};
use crate::error::{ConfigError, Source};
use crate::rules::Rules;
use crate::schema::Config;

/// Variables that start so are configuration; a misspelt one is an error.
const PREFIX: &str = "KROCKET__";

/// One value from outside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// For messages: `--listen`, `KROCKET__SERVER__LISTEN`.
    pub origin: String,
    /// Section and key.
    pub path: [String; 2],
    /// A TOML value, or text that needs no quotes.
    pub value: String,
}

impl Override {
    /// From a flag.
    pub fn flag(flag: &str, section: &str, key: &str, value: impl ToString) -> Self {
        Override { origin: flag.to_owned(), path: [section.to_owned(), key.to_owned()], value: value.to_string() }
    }

    /// From environment variables, in order of their names. In `KROCKET__KAFKA__*` an underscore stands for a dot.
    pub fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Self>, ConfigError> {
        let mut found = Vec::new();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let Some((section, key)) = rest.split_once("__") else {
                return Err(ConfigError::without_place(&name, format!("expected {PREFIX}SECTION__KEY")));
            };
            let (section, mut key) = (section.to_lowercase(), key.to_lowercase());
            if section == "kafka" {
                key = key.replace('_', ".");
            }
            found.push(Override { origin: name, path: [section, key], value });
        }
        found.sort_by(|a, b| a.origin.cmp(&b.origin));
        Ok(found)
    }
}

/// The configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    file: Option<Source>,
    overrides: Vec<Override>,
}

impl Loaded {
    /// An error about a key's value, pointing at where it was set.
    pub fn error(&self, section: &str, key: &str, message: impl Into<String>) -> ConfigError {
        if let Some(set) = self.overrides.iter().rev().find(|set| set.path == [section, key]) {
            return ConfigError::without_place(&set.origin, message);
        }
        match &self.file {
            Some(source) => ConfigError::at_key(source, section, key, message),
            None => ConfigError::without_place("default configuration", message),
        }
    }

    /// True when the file, a variable or a flag sets this key.
    pub fn sets(&self, section: &str, key: &str) -> bool {
        self.overrides.iter().any(|set| set.path == [section, key])
            || self.file.as_ref().is_some_and(|source| source.sets(section, key))
    }

    /// An error about a rule, pointing at it.
    pub fn fault(&self, fault: &Fault) -> ConfigError {
        if let [Step::Key(section), Step::Key(key)] = fault.path[..]
            && self.overrides.iter().any(|set| set.path == [section, key])
        {
            return self.error(section, key, fault.message.clone());
        }
        match &self.file {
            Some(source) => ConfigError::at_path(source, fault),
            None => ConfigError::without_place("default configuration", fault.to_string()),
        }
    }

    /// The features' rules.
    pub fn rules(&self) -> Result<Rules, ConfigError> {
        Rules::new(&self.config).map_err(|fault| self.fault(&fault))
    }
}

/// Reads the file, if there is one, and lays the overrides over it in their order.
pub fn load(file: Option<&Path>, overrides: Vec<Override>) -> Result<Loaded, ConfigError> {
    let file = file.map(read).transpose()?;
    let mut table = toml::Table::new();
    let mut config = Config::default();
    if let Some(source) = &file {
        config = toml::from_str(&source.text).map_err(|error| ConfigError::from_toml(source, &error))?;
        table = toml::from_str(&source.text).map_err(|error| ConfigError::from_toml(source, &error))?;
    }
    for set in &overrides {
        config = apply(&mut table, set)?;
    }
    if let Some(folder) = file.as_ref().and_then(|source| source.path.parent()) {
        config.paths_from(folder);
    }
    Ok(Loaded { config, file, overrides })
}

fn read(path: &Path) -> Result<Source, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source { path: PathBuf::from(path), text }),
        Err(error) => Err(ConfigError::without_place(&path.display().to_string(), format!("cannot read it: {error}"))),
    }
}

/// Tries the value as TOML (a number, a boolean, quoted text), then as plain text.
fn apply(table: &mut toml::Table, set: &Override) -> Result<Config, ConfigError> {
    let as_toml = toml::from_str::<toml::Table>(&format!("value = {}", set.value)).ok();
    let as_toml = as_toml.filter(|parsed| parsed.len() == 1).and_then(|mut parsed| parsed.remove("value"));
    let candidates = as_toml.into_iter().chain([toml::Value::String(set.value.clone())]);
    let mut refusal = None;
    for value in candidates {
        let mut attempt = table.clone();
        let [section, key] = &set.path;
        let section = attempt.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(section) = section.as_table_mut() else {
            let message = format!("`{}` is a list: it can be set in the file only", set.path[0]);
            return Err(ConfigError::without_place(&set.origin, message));
        };
        remove_dotted(section, key);
        section.insert(key.clone(), value);
        match Config::deserialize(attempt.clone()) {
            Ok(config) => {
                *table = attempt;
                return Ok(config);
            }
            Err(error) => refusal = Some(refusal.unwrap_or(error)),
        }
    }
    let error = refusal.expect("there is a candidate, and it was refused");
    Err(ConfigError::from_override(&set.origin, &error))
}

/// `a.b` may be set as a table `a` with a key `b`; the override replaces it.
fn remove_dotted(table: &mut toml::Table, key: &str) {
    if let Some((head, rest)) = key.split_once('.')
        && let Some(inner) = table.get_mut(head).and_then(toml::Value::as_table_mut)
    {
        inner.remove(rest);
        remove_dotted(inner, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn environment(variables: &[(&str, &str)]) -> Result<Vec<Override>, ConfigError> {
        Override::environment(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn no_file_means_the_defaults() {
        assert_eq!(load(None, vec![]).expect("loads").config, Config::default());
    }

    #[test]
    fn later_layers_win() {
        let file = file("[server]\nnode_id = 5\nlisten = \"127.0.0.1:1000\"\nhttp = \"127.0.0.1:1001\"\n");
        let mut overrides = environment(&[
            ("KROCKET__SERVER__LISTEN", "127.0.0.1:2000"),
            ("KROCKET__SERVER__HTTP", "127.0.0.1:2001"),
            ("PATH", "/bin"),
        ])
        .expect("valid");
        overrides.push(Override::flag("--http", "server", "http", "127.0.0.1:3001"));

        let config = load(Some(file.path()), overrides).expect("loads").config;

        assert_eq!(config.server.node_id, 5);
        assert_eq!(config.server.listen.port, 2000);
        assert_eq!(config.server.http.port, 3001);
    }

    #[test]
    fn kafka_names_may_be_dotted_quoted_or_from_the_environment() {
        let file = file("[kafka]\nlog.retention.ms = 1000\n\"num.partitions\" = 3\nlog.retention.bytes = -1\n");
        let overrides = environment(&[
            ("KROCKET__KAFKA__LOG_RETENTION_MS", "2000"),
            ("KROCKET__KAFKA__LOG_CLEANUP_POLICY", "compact"),
        ]);

        let kafka = load(Some(file.path()), overrides.expect("valid")).expect("loads").config.kafka;

        let expected = [
            ("log.cleanup.policy", "compact"),
            ("log.retention.bytes", "-1"),
            ("log.retention.ms", "2000"),
            ("num.partitions", "3"),
        ];
        assert_eq!(kafka.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_number_may_stand_for_text() {
        let set = Override::flag("--data-dir", "server", "data_dir", "2026");
        assert_eq!(load(None, vec![set]).expect("loads").config.server.data_dir, PathBuf::from("2026"));
    }

    #[test]
    fn a_bad_variable_is_named() {
        let overrides = environment(&[("KROCKET__SERVER__LISEN", "x")]).expect("well-formed");
        let message = load(None, overrides).expect_err("unknown").to_string();
        assert!(
            message.starts_with("KROCKET__SERVER__LISEN: unknown key `lisen`, did you mean `listen`?"),
            "{message}"
        );

        let message = environment(&[("KROCKET__LISTEN", "x")]).expect_err("no section").to_string();
        assert_eq!(message, "KROCKET__LISTEN: expected KROCKET__SECTION__KEY");
    }
}
