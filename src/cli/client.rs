//! The HTTP API's client.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use ureq::Agent;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use super::https::Encrypt;
use super::{password, say, table};
use crate::exit::Failure;

/// How often it is asked how far something is.
const POLL: Duration = Duration::from_millis(100);
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 64 << 20;

/// Which krocket, and how its answers are shown.
// Not Debug: it holds a token.
#[derive(Args, Clone)]
pub(super) struct Remote {
    /// The server's HTTP address; with https:// where it has TLS.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "KROCKET_HTTP", default_value = "127.0.0.1:9644")]
    http: String,
    /// PEM file of the authorities to trust instead of the system's; means https.
    #[arg(long, global = true, value_name = "FILE", env = "KROCKET_CA")]
    ca: Option<PathBuf>,
    /// The token that says who is asking, where krocket's authorizer is on.
    #[arg(long, global = true, value_name = "TOKEN", env = "KROCKET_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Who is asking, instead of a token; the password is in KROCKET_PASSWORD or asked for.
    #[arg(long, global = true, value_name = "NAME", env = "KROCKET_USER")]
    user: Option<String>,
    /// A file with that user's password.
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[arg(skip)]
    connected: OnceLock<Connected>,
    /// Print the API's JSON instead of a table.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// What all requests need, made once: it may ask for a password.
#[derive(Clone)]
struct Connected {
    agent: Agent,
    authorization: Option<String>,
}

/// Which part of a list.
#[derive(Args, Clone, Debug)]
pub(super) struct Paging {
    /// Most items to show, up to 1000 [default: 100].
    #[arg(long)]
    limit: Option<usize>,
    /// Go on where the last page ended.
    #[arg(long, value_name = "TOKEN")]
    next: Option<String>,
}

impl Paging {
    /// As query parameters.
    pub(super) fn query(&self) -> Query {
        Query::default().maybe("limit", self.limit).maybe("next", self.next.as_deref())
    }
}

/// Query parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Adds a parameter, if it is there.
    pub(super) fn maybe(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.0.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// A path; each segment may hold anything.
pub(super) fn path(segments: &[&str]) -> String {
    let mut path = String::from("/v1");
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => path.push(byte as char),
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    path
}

impl Remote {
    /// Asks for something.
    pub(super) fn get(&self, path: &str, query: &Query) -> Result<Value, Failure> {
        let connected = self.connected()?;
        let request = connected.signed(connected.agent.get(self.url(path)?));
        let request = query.0.iter().fold(request, |request, (name, value)| request.query(name, value));
        self.answer(request.call())
    }

    /// Asks for bytes, to be read as they come.
    pub(super) fn read(&self, path: &str, query: &Query) -> Result<Box<dyn Read>, Failure> {
        let connected = self.connected()?;
        let request = connected.signed(connected.agent.get(self.url(path)?));
        let request = query.0.iter().fold(request, |request, (name, value)| request.query(name, value));
        let response = request.call();
        match response {
            Ok(response) if response.status().is_success() => Ok(Box::new(response.into_body().into_reader())),
            other => self.answer(other).map(|_| -> Box<dyn Read> { Box::new(std::io::empty()) }),
        }
    }

    /// Has something done.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let connected = self.connected()?;
        self.answer(connected.signed(connected.agent.post(self.url(path)?)).send_json(body))
    }

    /// Has something done that may take long, with a progress bar where there is a terminal to see it. `status` answers
    /// with `done` and `total` meanwhile.
    pub(super) fn post_long(&self, path: &str, body: &Value, status: &str) -> Result<Value, Failure> {
        std::thread::scope(|scope| {
            let work = scope.spawn(|| self.post(path, body));
            self.follow(status, || !work.is_finished());
            work.join().unwrap_or_else(|_| Err(Failure::Other("the request panicked".to_owned())))
        })
    }

    /// Shows how far something is, as long as it goes on.
    pub(super) fn follow(&self, status: &str, goes_on: impl Fn() -> bool) {
        let bar = ProgressBar::new(0).with_style(
            ProgressStyle::with_template("{bar:40} {human_pos} of {human_len}, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        while goes_on() {
            std::thread::sleep(POLL);
            let Ok(state) = self.get(status, &Query::default()) else { continue };
            if let (Some(done), Some(total)) = (state["done"].as_u64(), state["total"].as_u64()) {
                bar.set_length(total);
                bar.set_position(done);
            }
        }
        bar.finish_and_clear();
    }

    /// Has something removed.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        let connected = self.connected()?;
        self.answer(connected.signed(connected.agent.delete(self.url(path)?)).call())
    }

    /// Prints a list: JSON, or a table of these columns, as far as the rows have them.
    pub(super) fn list(&self, answer: &Value, columns: &[&str]) {
        if self.json {
            return say(&pretty(answer));
        }
        let rows = table::rows(answer);
        match rows.is_empty() {
            true => say("nothing there"),
            false => say(&table::rows_table(rows, columns)),
        }
        if let Some(next) = answer.get("next").and_then(Value::as_str) {
            say(&format!("there is more: --next {next}"));
        }
    }

    /// Prints one thing with all that it has.
    pub(super) fn show(&self, answer: &Value) {
        match self.json {
            true => say(&pretty(answer)),
            false => say(&table::object(answer)),
        }
    }

    /// Prints what was done: JSON, or a sentence and what the server said beyond it.
    pub(super) fn done(&self, answer: &Value, sentence: &str) {
        if self.json {
            return say(&pretty(answer));
        }
        say(sentence);
        if answer.as_object().is_some_and(|fields| !fields.is_empty()) {
            say(&table::object(answer));
        }
    }

    fn connected(&self) -> Result<&Connected, Failure> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let authorization = match (&self.user, &self.token) {
            (Some(user), _) => {
                let password = password::existing(user, self.password_file.as_deref())?;
                Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))
            }
            (None, token) => token.as_ref().map(|token| format!("Bearer {token}")),
        };
        // Each request on a connection of its own: a body that is not read to its end leaves one that cannot be used again.
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).max_idle_connections(0).build();
        let agent = match self.url("")?.starts_with("https:") {
            true => {
                let trusted = krocket_proxy::tls::client(self.ca.as_deref()).map_err(Failure::Other)?;
                let connector = TcpConnector::default().chain(Encrypt(Arc::new(trusted)));
                Agent::with_parts(config, connector, DefaultResolver::default())
            }
            false => config.new_agent(),
        };
        Ok(self.connected.get_or_init(|| Connected { agent, authorization }))
    }

    fn url(&self, path: &str) -> Result<String, Failure> {
        let address = self.http.trim_end_matches('/');
        match address.split_once("://") {
            None if self.ca.is_some() => Ok(format!("https://{address}{path}")),
            None => Ok(format!("http://{address}{path}")),
            Some(("http" | "https", _)) => Ok(format!("{address}{path}")),
            Some((scheme, _)) => {
                Err(Failure::Other(format!("{scheme} is not spoken: --http is an address such as 127.0.0.1:9644")))
            }
        }
    }

    fn answer(&self, result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let unreachable = |error: ureq::Error| {
            let why = match error {
                ureq::Error::Io(error) => error.to_string(),
                error => error.to_string(),
            };
            Failure::Other(format!(
                "krocket cannot be reached at {}: {why} (--http or KROCKET_HTTP say where)",
                self.http
            ))
        };
        let mut response = result.map_err(unreachable)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(unreachable)?;
        let value = match text.trim().is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_str::<Value>(&text),
        };
        if status.is_success() {
            return value.map_err(|_| Failure::Other(format!("{} answers, but not as krocket does", self.http)));
        }
        let sentence = value.ok().and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
        Err(Failure::Other(sentence.unwrap_or_else(|| format!("{} answers {status}: {}", self.http, text.trim()))))
    }
}

impl Connected {
    /// With who is asking, where that is said.
    fn signed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_a_path_may_hold_anything() {
        assert_eq!(path(&["messages", "orders:3:4711", "life"]), "/v1/messages/orders:3:4711/life");
        assert_eq!(path(&["dlq", "a/b c?é"]), "/v1/dlq/a%2Fb%20c%3F%C3%A9");
    }
}
