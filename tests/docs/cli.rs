//! docs/cli.md: every command with its arguments, out of what parses them.

use std::fmt::Write;

use clap::{Arg, Command};

pub(super) fn page() -> String {
    let mut page = String::from(
        "# Command line\n\nMade from what parses the arguments by `UPDATE_DOCS=1 cargo test --test docs`.\n\n\
         `krocket` without a command is the server. Most other commands ask a running one over its HTTP API (`--http`); listings \
         have `--json`, which prints the API's answer. Exit codes: 0 done, 1 not done (the reason is on stderr), 64 wrong arguments or \
         configuration. Completion: `source <(krocket completion bash)`, or zsh, fish, elvish, powershell.\n",
    );
    let mut root = krocket::cli::command();
    root.build();
    for command in root.get_subcommands() {
        describe(&mut page, command, "krocket", 2);
    }
    page
}

fn describe(page: &mut String, command: &Command, parent: &str, depth: usize) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    assert!(!about.is_empty(), "{name} has no doc comment");
    write!(page, "\n{} `{name}`\n\n{about}.\n", "#".repeat(depth)).expect("a String");
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            describe(page, inner, &name, depth + 1);
        }
        return;
    }
    let shown: Vec<&Arg> = command.get_arguments().filter(|arg| arg.get_id() != "help" && !arg.is_hide_set()).collect();
    if shown.is_empty() {
        return;
    }
    page.push_str("\n| argument | default | meaning |\n|---|---|---|\n");
    for arg in shown {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "{name}: {} has no doc comment", arg.get_id());
        writeln!(page, "| `{}` | {} | {} |", spelt(arg), default(arg), help.replace('|', "\\|")).expect("a String");
    }
}

/// As it is typed: `--http <HOST:PORT>`, `<TOPIC>`, `[HEADER]...`.
fn spelt(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>"));
    let value = values.collect::<Vec<_>>().join(" ");
    let value = if arg.get_action().takes_values() { value } else { String::new() };
    let many =
        matches!(arg.get_action(), clap::ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > 1);
    let many = if many { "..." } else { "" };
    let flag = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => return format!("{value}{many}"),
    };
    format!("{flag} {value}").trim_end().to_owned() + many
}

fn default(arg: &Arg) -> String {
    let mut parts = Vec::new();
    if let Some(variable) = arg.get_env() {
        parts.push(format!("`${}`", variable.to_string_lossy()));
    }
    if arg.get_action().takes_values() {
        parts.extend(arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())));
    }
    if arg.is_required_set() {
        parts.push("required".to_owned());
    }
    parts.join(", ")
}
