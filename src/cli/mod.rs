//! The command line: the server, and a client of its HTTP API.

mod backup;
mod client;
mod dlq;
mod dump;
mod group;
mod https;
mod kafka;
mod lookup;
mod message;
mod password;
mod retry;
mod schedule;
mod serve;
mod table;
mod top;
mod topic;
mod txn;
mod user;
mod verify;
mod view;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::{BAD_CONFIG, Failure};
use crate::reload::Source;
use crate::settings;

#[derive(Parser)]
#[command(name = "krocket", version, about = "A Kafka broker in one binary, with RocketMQ's features")]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default).
    Serve(serve::Serve),
    /// Check a configuration file and do nothing else.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Messages: send one, look one up, follow its life.
    Message(message::Message),
    /// Delayed messages that wait for their time.
    Schedule(schedule::Schedule),
    /// Nacked messages that wait for their next attempt.
    Retry(retry::Retry),
    /// Dead letters of consumer groups.
    Dlq(dlq::Dlq),
    /// Half messages that are not resolved.
    Txn(txn::Txn),
    /// Views: topics that show a part of another one.
    View(view::View),
    /// Consumer groups with their lag.
    Group(group::Group),
    /// Topics.
    Topic(topic::Topic),
    /// Users with a password, for SASL and HTTP.
    User(user::User),
    /// The look-up index.
    Lookup(lookup::Lookup),
    /// What goes on, live: topics, rates, groups, lag, pending work.
    Top(top::Top),
    /// Backups of a running krocket: take, list, check and prune them.
    Backup(backup::Backup),
    /// Fill an empty data folder from a backup.
    Restore(backup::Restore),
    /// Read a stopped krocket's log and index and say what is wrong.
    Verify(verify::Verify),
    /// Print what a segment file of the log holds.
    Dump(dump::Dump),
    /// Print what completes commands in a shell: `source <(krocket completion bash)`.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// The command line's description, of which docs/cli.md is made.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(serve) => serve::run(&serve),
        Command::CheckConfig { file } => check_config(file),
        Command::Message(command) => command.run(),
        Command::Schedule(command) => command.run(),
        Command::Retry(command) => command.run(),
        Command::Dlq(command) => command.run(),
        Command::Txn(command) => command.run(),
        Command::View(command) => command.run(),
        Command::Group(command) => command.run(),
        Command::Topic(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Lookup(command) => command.run(),
        Command::Top(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Dump(command) => command.run(),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "krocket", &mut script);
            let _ = std::io::stdout().write_all(&script);
            Ok(())
        }
        Command::Version => {
            say(&format!("krocket {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.code()
        }
    }
}

fn check_config(file: PathBuf) -> Result<(), Failure> {
    let (loaded, _) = Source { file: Some(file.clone()), overrides: Vec::new() }.load()?;
    for warning in settings::warnings(&loaded.config) {
        say(&format!("{}: warning: {warning}", file.display()));
    }
    say(&format!("{}: ok", file.display()));
    Ok(())
}

/// Prints a line; a reader that has gone (`| head`) is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[allow(clippy::print_stderr)]
fn complain(failure: &Failure) {
    eprintln!("krocket: {failure}");
}
