//! Passwords: from a variable, a file or the terminal, never from the command line, which every user of the machine sees.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};

use crate::exit::Failure;

/// The password of the user who asks.
const PASSWORD: &str = "KROCKET_PASSWORD";
/// The one that a user is to get.
const NEW_PASSWORD: &str = "KROCKET_NEW_PASSWORD";

/// The password of `user`, who asks: from the file, from KROCKET_PASSWORD, or from the terminal.
pub(super) fn existing(user: &str, file: Option<&Path>) -> Result<String, Failure> {
    if let Some(password) = given(file, PASSWORD)? {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Other(format!("{user} needs a password: set {PASSWORD} or --password-file")));
    }
    ask(&format!("Password of {user}: "))
}

/// The password that `user` gets: from the file, from KROCKET_NEW_PASSWORD, twice from the terminal, or a line of stdin.
pub(super) fn new(user: &str, file: Option<&Path>) -> Result<String, Failure> {
    if let Some(password) = given(file, NEW_PASSWORD)? {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| cannot("stdin", &error))?;
        return filled(line, "stdin");
    }
    let password = ask(&format!("New password of {user}: "))?;
    match ask("Again: ")? == password {
        true => Ok(password),
        false => Err(Failure::Other("the two passwords differ".to_owned())),
    }
}

fn given(file: Option<&Path>, variable: &str) -> Result<Option<String>, Failure> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).map_err(|error| cannot(&file.display().to_string(), &error))?;
        return filled(text, &file.display().to_string()).map(Some);
    }
    match std::env::var(variable) {
        Ok(password) => filled(password, variable).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::Other(format!("{variable} is not UTF-8"))),
    }
}

/// Without the end of its line.
fn filled(mut text: String, from: &str) -> Result<String, Failure> {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    match text.is_empty() {
        true => Err(Failure::Other(format!("no password comes from {from}"))),
        false => Ok(text),
    }
}

fn cannot(from: &str, error: &io::Error) -> Failure {
    Failure::Other(format!("no password comes from {from}: {error}"))
}

/// Nothing of it is shown.
fn ask(prompt: &str) -> Result<String, Failure> {
    let mut terminal = io::stderr();
    let _ = write!(terminal, "{prompt}").and_then(|()| terminal.flush());
    enable_raw_mode().map_err(|error| cannot("the terminal", &error))?;
    let typed = type_in();
    let _ = disable_raw_mode();
    let _ = writeln!(terminal);
    match typed.map_err(|error| cannot("the terminal", &error))? {
        Some(password) => filled(password, "the terminal"),
        None => Err(Failure::Other("no password was given".to_owned())),
    }
}

fn type_in() -> io::Result<Option<String>> {
    let mut password = String::new();
    loop {
        let Event::Key(key) = event::read()? else { continue };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Enter => return Ok(Some(password)),
            KeyCode::Esc => return Ok(None),
            KeyCode::Char('c' | 'd') if control => return Ok(None),
            KeyCode::Char('u') if control => password.clear(),
            KeyCode::Backspace => drop(password.pop()),
            KeyCode::Char(c) if !control => password.push(c),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_password_and_the_end_of_its_line_is_not_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        for (text, password) in [("secret\n", "secret"), (" a b \r\n", " a b "), ("x", "x")] {
            std::fs::write(&file, text).expect("written");
            assert_eq!(existing("alice", Some(&file)).expect("a password"), password);
        }
        std::fs::write(&file, "\n").expect("written");
        let failure = new("alice", Some(&file)).expect_err("empty").to_string();
        assert!(failure.starts_with("no password comes from ") && failure.ends_with("password"), "{failure}");
        std::fs::remove_file(&file).expect("removed");
        let failure = new("alice", Some(&file)).expect_err("missing").to_string();
        assert!(failure.contains("No such file"), "{failure}");
    }
}
