//! `krocket user`: users with a password, kept with the data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest};
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::ErrorCode;
use krocket_stack::security::ScramMechanism;
use krocket_stack::security::scram::{MAX_ITERATIONS, MIN_ITERATIONS};
use serde_json::{Value, json};

use super::kafka::{Bootstrap, Kafka};
use super::{password, say, table};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct User {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make a user, or give one another password. It is asked for, or taken from KROCKET_NEW_PASSWORD or stdin.
    Add {
        /// The user's name.
        name: String,
        /// A file with the user's new password.
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
        /// What the user may log in with [default: both].
        #[arg(long)]
        mechanism: Option<Mechanism>,
        /// How often the password is hashed.
        #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(i32).range(i64::from(MIN_ITERATIONS)..=i64::from(MAX_ITERATIONS)))]
        iterations: i32,
    },
    /// Users that were made while krocket ran; those of security.users_file are not among them.
    List,
    /// Take a user's password away.
    Delete {
        /// The user's name.
        name: String,
        /// Only this one [default: all].
        #[arg(long)]
        mechanism: Option<Mechanism>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Mechanism {
    #[value(name = "SCRAM-SHA-256")]
    Sha256,
    #[value(name = "SCRAM-SHA-512")]
    Sha512,
}

impl From<Mechanism> for ScramMechanism {
    fn from(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Sha256 => ScramMechanism::Sha256,
            Mechanism::Sha512 => ScramMechanism::Sha512,
        }
    }
}

const BOTH: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

impl User {
    pub(super) fn run(self) -> Result<(), Failure> {
        let these = |mechanism: Option<Mechanism>| mechanism.map_or(BOTH.to_vec(), |one| vec![one.into()]);
        match &self.command {
            Command::Add { name, new_password_file, mechanism, iterations } => {
                let mut kafka = self.bootstrap.connect()?;
                let password = password::new(name, new_password_file.as_deref())?;
                let upsertion = |mechanism: ScramMechanism| upsertion(mechanism, name, &password, *iterations);
                let request = AlterUserScramCredentialsRequest::default()
                    .with_upsertions(these(*mechanism).into_iter().map(upsertion).collect());
                alter(&mut kafka, &request)?;
                self.done(name, &these(*mechanism), "has this password from now on")
            }
            Command::List => self.list(&describe(&mut self.bootstrap.connect()?, None)?),
            Command::Delete { name, mechanism } => {
                let mut kafka = self.bootstrap.connect()?;
                let known = describe(&mut kafka, Some(name))?;
                let has =
                    |mechanism: &ScramMechanism| known.iter().flat_map(|user| &user.has).any(|(it, _)| it == mechanism);
                let gone: Vec<_> = these(*mechanism).into_iter().filter(has).collect();
                if gone.is_empty() {
                    let what = if known.is_empty() { "user" } else { "such password of" };
                    return Err(Failure::Other(format!("there is no {what} \"{name}\"")));
                }
                let deletion = |mechanism: &ScramMechanism| {
                    let name = StrBytes::from_string(name.clone());
                    ScramCredentialDeletion::default().with_name(name).with_mechanism(*mechanism as i8)
                };
                let request =
                    AlterUserScramCredentialsRequest::default().with_deletions(gone.iter().map(deletion).collect());
                alter(&mut kafka, &request)?;
                self.done(name, &gone, "has this password no more")
            }
        }
    }

    fn list(&self, users: &[Known]) -> Result<(), Failure> {
        let row = |user: &Known| {
            let has: Vec<Value> = user
                .has
                .iter()
                .map(|(mechanism, iterations)| json!({ "mechanism": text(*mechanism), "iterations": iterations }))
                .collect();
            json!({ "name": user.name, "credentials": has })
        };
        if self.json {
            let answer = json!({ "items": users.iter().map(row).collect::<Vec<_>>() });
            say(&serde_json::to_string_pretty(&answer).unwrap_or_default());
            return Ok(());
        }
        let flat = |user: &Known| {
            let has: Vec<String> = user.has.iter().map(|(mechanism, _)| text(*mechanism).to_owned()).collect();
            json!({ "name": user.name, "mechanisms": has.join(" ") })
        };
        let rows = users.iter().map(flat).collect::<Value>();
        match users.is_empty() {
            true => say("nothing there"),
            false => say(&table::rows_table(table::rows(&rows), &["name", "mechanisms"])),
        }
        Ok(())
    }

    fn done(&self, name: &str, mechanisms: &[ScramMechanism], what: &str) -> Result<(), Failure> {
        let names: Vec<_> = mechanisms.iter().map(|it| text(*it)).collect();
        match self.json {
            true => say(&json!({ "name": name, "mechanisms": names }).to_string()),
            false => say(&format!("{name} {what} ({})", names.join(", "))),
        }
        Ok(())
    }
}

/// A user with mechanisms and iterations.
struct Known {
    name: String,
    has: Vec<(ScramMechanism, i32)>,
}

fn text(mechanism: ScramMechanism) -> &'static str {
    match mechanism {
        ScramMechanism::Sha256 => "SCRAM-SHA-256",
        ScramMechanism::Sha512 => "SCRAM-SHA-512",
    }
}

/// The password itself does not travel.
fn upsertion(mechanism: ScramMechanism, name: &str, password: &str, iterations: i32) -> ScramCredentialUpsertion {
    let salt = uuid::Uuid::new_v4().into_bytes();
    ScramCredentialUpsertion::default()
        .with_name(StrBytes::from_string(name.to_owned()))
        .with_mechanism(mechanism as i8)
        .with_iterations(iterations)
        .with_salt(salt.to_vec().into())
        .with_salted_password(mechanism.salted(password.as_bytes(), &salt, iterations).into())
}

fn refuse(code: i16, message: Option<StrBytes>) -> Result<(), Failure> {
    match (ErrorCode::try_from_code(code), message) {
        (None, _) => Ok(()),
        (Some(_), Some(message)) if !message.is_empty() => Err(Failure::Other(message.to_string())),
        (Some(code), _) => Err(Failure::Other(format!("krocket refuses: {code:?}"))),
    }
}

fn alter(kafka: &mut Kafka, request: &AlterUserScramCredentialsRequest) -> Result<(), Failure> {
    let answer = kafka.call(0, request)?;
    answer.results.into_iter().try_for_each(|result| refuse(result.error_code, result.error_message))
}

/// Everybody, or one user: nobody where there is no such.
fn describe(kafka: &mut Kafka, name: Option<&str>) -> Result<Vec<Known>, Failure> {
    let one = |name: &str| vec![UserName::default().with_name(StrBytes::from_string(name.to_owned()))];
    let answer = kafka.call(0, &DescribeUserScramCredentialsRequest::default().with_users(name.map(one)))?;
    refuse(answer.error_code, answer.error_message)?;
    let mut users = Vec::new();
    for result in answer.results {
        if ErrorCode::try_from_code(result.error_code) == Some(ErrorCode::ResourceNotFound) {
            continue;
        }
        refuse(result.error_code, result.error_message)?;
        let has = result.credential_infos.iter();
        let has = has.filter_map(|info| Some((ScramMechanism::from_number(info.mechanism)?, info.iterations)));
        users.push(Known { name: result.user.to_string(), has: has.collect() });
    }
    users.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(users)
}
