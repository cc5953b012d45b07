//! JSON as tables. Fields are shown as they come, so that a table has what the API has.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::time;

/// Longest cell in a list, characters; `show` and `--json` have all of it.
const MAX_CELL: usize = 60;
/// Shown before other fields, which JSON objects have in no order.
const FIRST: &[&str] = &[
    "id",
    "name",
    "group",
    "topic",
    "partition",
    "offset",
    "type",
    "state",
    "source",
    "filter",
    "committed",
    "end",
    "lag",
];
/// Numbers in a `_ms` field from here on are times, below durations.
const TIMES_FROM_MS: i64 = 100_000_000_000;

/// The rows of a list: the answer itself, its `items`, or its only list.
pub(super) fn rows(answer: &Value) -> &[Value] {
    let found = match answer {
        Value::Array(rows) => Some(rows),
        Value::Object(fields) => match fields.get("items") {
            Some(items) => items.as_array(),
            None => {
                let mut lists = fields.values().filter_map(Value::as_array);
                lists.next().filter(|_| lists.next().is_none())
            }
        },
        _ => None,
    };
    found.map(Vec::as_slice).unwrap_or_default()
}

/// A table of rows: the columns that are asked for and there; all there are if that is none.
pub(super) fn rows_table(rows: &[Value], columns: &[&str]) -> String {
    let there = |column: &str| rows.iter().any(|row| row.get(column).is_some_and(|value| !value.is_null()));
    let mut shown: Vec<String> = columns.iter().filter(|column| there(column)).map(|name| (*name).to_owned()).collect();
    if shown.is_empty() {
        for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
            if !shown.contains(name) && there(name) {
                shown.push(name.clone());
            }
        }
        shown.sort_by_key(|name| place(name));
    }
    let mut table = new();
    if shown.is_empty() {
        for row in rows {
            table.add_row([cell("", row)]);
        }
        return text(&table);
    }
    table.set_header(shown.iter().map(|name| title(name)));
    for row in rows {
        let cells = shown.iter().map(|name| row.get(name).map_or_else(|| "-".to_owned(), |value| cell(name, value)));
        table.add_row(cells.map(|cell| shorten(&cell)));
    }
    text(&table)
}

/// One thing: a line a field, then its lists as tables.
pub(super) fn object(value: &Value) -> String {
    let Value::Object(fields) = value else { return cell("", value) };
    let mut lines = new();
    let mut lists = Vec::new();
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| place(name));
    for (name, value) in fields {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => lists.push((name, rows)),
            Value::Object(inner) if !inner.is_empty() => {
                for (key, value) in inner {
                    lines.add_row([format!("{} {key}", title(name)), cell(key, value)]);
                }
            }
            _ => {
                lines.add_row([title(name), cell(name, value)]);
            }
        }
    }
    let mut parts = vec![text(&lines)];
    parts.extend(lists.iter().map(|(name, rows)| format!("\n{}\n{}", title(name), rows_table(rows, &[]))));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn place(name: &str) -> usize {
    FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len())
}

fn new() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn text(table: &Table) -> String {
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn title(name: &str) -> String {
    name.strip_suffix("_ms").unwrap_or(name).replace('_', " ").to_uppercase()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// One value, on one line and without what would move the terminal's cursor.
fn cell(name: &str, value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_i64().filter(|_| name.ends_with("_ms") || name == "timestamp") {
            Some(ms) if ms >= TIMES_FROM_MS => time::show(ms),
            Some(ms) => format!("{ms} ms"),
            None => number.to_string(),
        },
        Value::Array(values) => values.iter().map(|value| cell(name, value)).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.values().all(|value| !value.is_object() && !value.is_array()) => {
            fields.iter().map(|(key, value)| format!("{key}={}", cell(key, value))).collect::<Vec<_>>().join(" ")
        }
        Value::Object(_) => value.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_shows_the_columns_that_are_there_in_the_order_asked_for() {
        let answer = json!({"items": [
            {"id": "orders:0:1", "due_ms": 1_795_240_800_000_i64, "bell": "\u{7}x", "half": true},
            {"id": "orders:0:22", "due_ms": null, "half": false},
        ], "next": "ab"});
        let table = rows_table(rows(&answer), &["half", "id", "due_ms", "topic"]);
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["HALF ID DUE", "yes orders:0:1 2026-11-21T06:00:00.000Z", "no orders:0:22 -"]);
        assert!(rows_table(rows(&answer), &[]).contains("\u{fffd}x"));
    }

    #[test]
    fn one_thing_is_shown_whole() {
        let shown = object(&json!({
            "group": "billing", "lag": 3, "wait_ms": 500,
            "partitions": [{"topic": "orders", "partition": 0}], "headers": {"TAGS": "paid"},
        }));
        for part in ["GROUP", "billing", "500 ms", "HEADERS TAGS", "PARTITIONS\n", "orders"] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
    }

    #[test]
    fn rows_are_found_wherever_the_answer_has_its_list() {
        for answer in
            [json!([{"a": 1}]), json!({"items": [{"a": 1}], "more": []}), json!({"groups": [{"a": 1}], "n": 1})]
        {
            assert_eq!(rows(&answer), [json!({"a": 1})], "{answer}");
        }
        assert!(rows(&json!({"a": [1], "b": [2]})).is_empty());
    }
}
