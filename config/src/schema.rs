//! Every key, its meaning and its default. `config/examples/full.toml` shows them all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::rules::{Prefixes, Retry, Rule, View};
use crate::security::{Listener, Security, ServerTls};
use crate::units;

/// The whole file. An absent section has its defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses, identity, data folder.
    pub server: Server,
    /// Where Kafka clients connect, where one place is not enough or it is to be secured; instead of `server.listen`.
    pub listeners: Vec<Listener>,
    /// How clients prove who they are.
    pub security: Security,
    /// What clients may use.
    pub limits: Limits,
    /// The commit log.
    pub log: Log,
    /// What is logged to stderr, and how.
    pub logging: Logging,
    /// Requests as traces.
    pub traces: Traces,
    /// What /metrics says of topics and groups.
    pub metrics: Metrics,
    /// The HTTP API's own.
    pub http: Http,
    /// Kafka's broker configs by Kafka's names (`num.partitions`, `log.retention.ms`, ...), values as text. Quoted
    /// (`"num.partitions" = 3`) and dotted (`num.partitions = 3`) keys mean the same.
    #[serde(deserialize_with = "kafka_configs")]
    pub kafka: BTreeMap<String, String>,
    /// What features do for which topics; the first rule that matches holds.
    pub rules: Vec<Rule>,
    /// Views that are always there.
    pub views: Vec<View>,
    /// How which consumer groups retry; the first policy that matches holds.
    pub retry: Vec<Retry>,
    /// Prefixes of krocket's own topics.
    pub names: Prefixes,
}

/// Sections that are taken over while krocket runs.
pub const RELOADED: &[&str] = &["rules", "views", "retry", "names", "logging.requests", "traces.sample"];

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// This broker's id in Metadata.
    pub node_id: i32,
    /// Where Kafka clients connect. Port 0 takes a free one.
    pub listen: HostPort,
    /// Host and port that clients are told to connect to; by default `listen`. Needed when that is 0.0.0.0 or [::].
    pub advertised: Option<HostPort>,
    /// Where /metrics, /livez, /readyz and /v1 are served.
    pub http: HostPort,
    /// The folder that holds everything. Created when it does not exist.
    pub data_dir: PathBuf,
    /// How long requests in flight, and then background work, may take to finish after SIGTERM.
    #[serde(with = "units::duration")]
    pub shutdown_grace: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            node_id: 1,
            listen: HostPort::new("127.0.0.1", 9092),
            advertised: None,
            http: HostPort::new("127.0.0.1", 9644),
            data_dir: PathBuf::from("./krocket-data"),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open client connections; one more is closed at once (Kafka's max.connections).
    pub connections: usize,
    /// The largest request (Kafka's socket.request.max.bytes).
    #[serde(with = "units::size")]
    pub request_bytes: u64,
    /// Memory for all requests being read or answered (Kafka's queued.max.request.bytes). Reading pauses beyond it.
    #[serde(with = "units::size")]
    pub queued_request_bytes: u64,
    /// A connection without a request for this long is closed (Kafka's connections.max.idle.ms).
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// A request that has begun must bring 64 KiB, or its end, within this time.
    #[serde(with = "units::duration")]
    pub receive_timeout: Duration,
    /// A client must take some of a waiting response within this time.
    #[serde(with = "units::duration")]
    pub send_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            request_bytes: 100 << 20,
            queued_request_bytes: 256 << 20,
            idle: Duration::from_secs(600),
            receive_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A segment file is closed before it grows beyond this; at most 2GiB.
    #[serde(with = "units::size")]
    pub segment_bytes: u64,
    /// Memory for the newest batches, which most fetches ask for.
    #[serde(with = "units::size")]
    pub recent_bytes: u64,
    /// Memory for blocks of the index (RocksDB's block cache).
    #[serde(with = "units::size")]
    pub index_cache_bytes: u64,
    /// Memory for what the index has not written to disk yet (RocksDB's memtables).
    #[serde(with = "units::size")]
    pub index_memtable_bytes: u64,
    /// The index is written to disk after so many bytes of log: what a start after a crash reads again at most.
    #[serde(with = "units::size")]
    pub index_flush_bytes: u64,
    /// Producers are refused (KAFKA_STORAGE_ERROR) while the data folder's file system has less than this free, so that
    /// deliveries and deletions can still be written; 0 for never.
    #[serde(with = "units::size")]
    pub min_free_bytes: u64,
    /// Producers are refused while log and index hold more than this; 0 for no limit.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            segment_bytes: 512 << 20,
            recent_bytes: 32 << 20,
            index_cache_bytes: 32 << 20,
            index_memtable_bytes: 16 << 20,
            index_flush_bytes: 256 << 20,
            min_free_bytes: 128 << 20,
            max_bytes: 0,
        }
    }
}

/// `[logging]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// A tracing filter: a level, or `target=level` pairs (`info,krocket_proxy=debug`).
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Which requests of clients are logged, a line each. Taken over while krocket runs.
    pub requests: RequestLog,
}

impl Default for Logging {
    fn default() -> Self {
        Logging { filter: "info".to_owned(), format: LogFormat::Text, requests: RequestLog::default() }
    }
}

/// `[logging.requests]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLog {
    /// How many of all requests, from 0 to 1: 0.01 is one in a hundred.
    pub sample: f64,
    /// Also every request that takes as long as this or longer. Those that are there to wait are not meant: Fetch,
    /// ShareFetch, JoinGroup and SyncGroup.
    #[serde(with = "units::optional_duration")]
    pub slow: Option<Duration>,
}

impl Eq for RequestLog {}

/// `[traces]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// A collector that takes OpenTelemetry's protocol over HTTP, `http://127.0.0.1:4318`; `/v1/traces` is added where
    /// no path is given. Absent: there are no traces.
    pub endpoint: Option<String>,
    /// How many of all requests, from 0 to 1: 0.01 is one in a hundred. Taken over while krocket runs.
    pub sample: f64,
    /// What krocket is called in them: the resource's `service.name`.
    pub service_name: String,
}

impl Eq for Traces {}

impl Default for Traces {
    fn default() -> Self {
        Traces { endpoint: None, sample: 0.01, service_name: "krocket".to_owned() }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Some series for each topic.
    pub topics: bool,
    /// Some series for each group, and one for each topic that it reads.
    pub groups: bool,
    /// The names of kafka_exporter as well, for dashboards that were made for it: a series for each partition.
    pub kafka_exporter: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { topics: true, groups: true, kafka_exporter: false }
    }
}

/// `[http]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Lines of `token = "User:name"`: who may use /v1 as whom, with `Authorization: Bearer`. Read again when it changes.
    pub tokens_file: Option<PathBuf>,
    /// Absent: bytes travel unencrypted.
    pub tls: Option<ServerTls>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// As given.
    pub fn new(host: &str, port: u16) -> Self {
        HostPort { host: host.to_owned(), port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            (!host.is_empty() && !host.contains(char::is_whitespace))
                .then(|| Some(HostPort { host: host.to_owned(), port: port.parse().ok()? }))?
        });
        parsed.ok_or_else(|| {
            de::Error::custom(format!("\"{text}\" is not a host and a port such as \"kafka.example:9092\""))
        })
    }
}

fn kafka_configs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let table = toml::Table::deserialize(deserializer)?;
    let mut configs = BTreeMap::new();
    flatten("", table, &mut configs).map_err(de::Error::custom)?;
    Ok(configs)
}

/// Dotted keys are nested tables in TOML; Kafka's names are flat.
fn flatten(prefix: &str, table: toml::Table, configs: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let text = match value {
            toml::Value::Table(table) => {
                flatten(&name, table, configs)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(value) => value.to_string(),
            other => return Err(format!("`{name}` must be text, a number or a boolean, not {}", other.type_str())),
        };
        if configs.insert(name.clone(), text).is_some() {
            return Err(format!("`{name}` is set twice"));
        }
    }
    Ok(())
}
