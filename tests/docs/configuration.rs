//! docs/configuration.md: every key of the configuration file, out of the types that read it.
//!
//! What a key means is its doc comment in config/src; its default is what the types say when they are asked.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use krocket_config::Config;
use toml::Value;

/// Files with the types.
const SOURCES: [&str; 3] = ["schema.rs", "rules.rs", "security.rs"];
/// The tables that are lists, with what they cannot be without.
const LISTS: &str = r#"
[[listeners]]
name = "clients"
listen = "0.0.0.0:9092"
[[rules]]
topics = ["*"]
[[views]]
name = "orders-big"
source = "orders"
filter = "TAGS = 'paid'"
[[retry]]
groups = ["*"]
backoff = { initial = "1s", multiplier = 2.0, max = "10m", jitter = 0.2 }
"#;

struct Struct {
    about: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    kind: String,
    unit: &'static str,
    about: String,
}

pub(super) fn page() -> String {
    let structs = structs();
    let config: Config = toml::from_str(LISTS).expect("a configuration");
    let defaults = Value::try_from(config).expect("it can be written");
    let mut page = String::from(
        "# Configuration\n\nMade from the types that read the file by `UPDATE_DOCS=1 cargo test --test docs`.\n\n\
         krocket runs without a file. A TOML file (`--config`), environment variables `KROCKET__SECTION__KEY` and flags override the \
         defaults in that order; `krocket check-config FILE` checks a file and does nothing else. Unknown keys are errors. \
         [config/examples/full.toml](../config/examples/full.toml) shows all of them in place. Sizes are written as `512MiB`, durations \
         as `500ms`, `30s`, `10m`, `1h` or `7d`.\n",
    );
    for section in &structs["Config"].fields {
        let Some(found) = structs.get(inner(&section.kind)) else {
            write!(page, "\n## `[{}]`\n\n{}\n", section.name, section.about).expect("a String");
            continue;
        };
        let list = section.kind.starts_with("Vec<");
        let (open, close) = if list { ("[[", "]]") } else { ("[", "]") };
        let reloaded = krocket_config::schema::RELOADED.contains(&section.name.as_str());
        let when = if reloaded { "Taken over while krocket runs." } else { "A change needs a restart." };
        let about = found.about.split_once(": ").map_or(section.about.as_str(), |(_, rest)| rest);
        write!(page, "\n## `{open}{}{close}`\n\n{} {when}\n\n", section.name, sentence(about)).expect("a String");
        page.push_str("| key | default | meaning |\n|---|---|---|\n");
        let default = defaults.get(&section.name);
        let default = if list { default.and_then(|all| all.get(0)) } else { default };
        rows(&mut page, "", found, default, &structs);
    }
    page
}

fn rows(page: &mut String, prefix: &str, table: &Struct, defaults: Option<&Value>, structs: &BTreeMap<String, Struct>) {
    for field in &table.fields {
        let name = format!("{prefix}{}", field.name);
        let default = defaults.and_then(|defaults| defaults.get(&field.name));
        match structs.get(inner(&field.kind)) {
            Some(nested) => {
                let off = if field.kind.starts_with("Switch<") { "on; `false` is off" } else { "" };
                writeln!(page, "| `{name}` | {off} | {} |", field.about).expect("a String");
                rows(page, &format!("{name}."), nested, default, structs);
            }
            None => {
                let shown = default.map(|value| format!("`{}`", value.to_string().replace('|', "\\|")));
                let shown = shown.unwrap_or_default();
                let unit = if field.unit.is_empty() { String::new() } else { format!(" *({})*", field.unit) };
                writeln!(page, "| `{name}` | {shown} | {}{unit} |", field.about).expect("a String");
            }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let text: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    format!("{}.", text.trim_end_matches('.'))
}

/// The type inside of options and lists.
fn inner(kind: &str) -> &str {
    match kind.split_once('<') {
        Some((_, rest)) => inner(rest.trim_end_matches('>')),
        None => kind.rsplit("::").next().unwrap_or(kind),
    }
}

/// Public structs by name, with the doc comments of their public fields.
fn structs() -> BTreeMap<String, Struct> {
    let mut found = BTreeMap::new();
    for source in SOURCES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/src").join(source);
        let text = std::fs::read_to_string(path).expect("a source file");
        let (mut about, mut unit, mut open) = (String::new(), "", None::<String>);
        for line in text.lines() {
            let trimmed = line.trim();
            if let Some(doc) = trimmed.strip_prefix("///") {
                if !about.is_empty() {
                    about.push(' ');
                }
                about.push_str(doc.trim());
            } else if let Some(attribute) = trimmed.strip_prefix("#[") {
                unit = match () {
                    () if attribute.contains("units::size") => "size",
                    () if attribute.contains("units::duration") || attribute.contains("units::optional_duration") => {
                        "duration"
                    }
                    () => unit,
                };
            } else if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
                let fields = Vec::new();
                found.insert(name.to_owned(), Struct { about: std::mem::take(&mut about), fields });
                open = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("    pub ").filter(|_| !trimmed.contains("fn "))
                && let Some((name, kind)) = rest.trim_end_matches(',').split_once(": ")
                && let Some(table) = open.as_ref().and_then(|open| found.get_mut(open))
            {
                let about = std::mem::take(&mut about).replace("[`", "`").replace("`]", "`").replace('|', "\\|");
                table.fields.push(Field { name: name.to_owned(), kind: kind.to_owned(), unit, about });
                unit = "";
            } else {
                if line == "}" {
                    open = None;
                }
                about.clear();
                unit = "";
            }
        }
    }
    found
}

#[test]
fn every_key_has_a_meaning() {
    for (name, table) in structs() {
        for field in &table.fields {
            assert!(!field.about.is_empty(), "{name}.{} has no doc comment", field.name);
        }
    }
}
