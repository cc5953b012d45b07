//! The configuration as the parts want it.

use std::collections::BTreeMap;
use std::sync::Arc;

use krocket_broker::Settings;
use krocket_broker::config::logger::Loggers;
use krocket_broker::log::{DiskLimits, LogConfig};
use krocket_config::check::Step;
use krocket_config::rules::Rules;
use krocket_config::security::Listener;
use krocket_config::{Config, ConfigError, Fault, Loaded};
use krocket_filter::{Expression, FilterError};
use krocket_proxy::Limits;
use krocket_proxy::acl::Policy;
use krocket_stack::Principal;

use crate::http::Exported;
use crate::traces;

mod security;

pub use security::{Doors, warnings};

/// Broker configs that have a key of their own in `[server]`.
const OWN_KEYS: &[(&str, &str)] = &[
    ("advertised.listeners", "advertised"),
    ("broker.id", "node_id"),
    ("log.dirs", "data_dir"),
    ("node.id", "node_id"),
];

/// What the broker is started with. `ports` are the ports that the listeners were bound to.
pub fn broker(config: &Config, ports: &[u16], loggers: Option<Arc<dyn Loggers>>) -> Settings {
    let server = &config.server;
    let told = |(listener, port): (&Listener, &u16)| {
        let address = match &listener.advertised {
            Some(advertised) => (advertised.host.clone(), advertised.port),
            None => (listener.listen.host.clone(), *port),
        };
        (listener.name.clone(), address)
    };
    let told: Vec<_> = config.listeners().iter().zip(ports).map(told).collect();
    Settings {
        node_id: server.node_id,
        advertised: told.first().map(|(_, address)| address.clone()).unwrap_or(Settings::default().advertised),
        listeners: if config.listeners.is_empty() { BTreeMap::new() } else { told.into_iter().collect() },
        cluster_id: None,
        configs: config.kafka.clone(),
        authorizer: config.security.authorizer,
        log: log(config),
        loggers,
    }
}

fn log(config: &Config) -> LogConfig {
    let log = &config.log;
    let defaults = LogConfig::default();
    LogConfig {
        recent_bytes: log.recent_bytes as usize,
        disk: DiskLimits { min_free_bytes: log.min_free_bytes, max_bytes: log.max_bytes },
        store: krocket_store::Options {
            segment_bytes: log.segment_bytes,
            index_cache_bytes: log.index_cache_bytes as usize,
            index_memtable_bytes: log.index_memtable_bytes as usize,
            index_flush_bytes: log.index_flush_bytes,
            ..defaults.store
        },
        ..defaults
    }
}

/// Which metrics are made of topics and groups.
pub fn exported(config: &Config) -> Exported {
    let krocket_config::schema::Metrics { topics, groups, kafka_exporter } = config.metrics;
    Exported { topics, groups, kafka_exporter }
}

/// What clients may use.
pub fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        connections: limits.connections,
        request_bytes: limits.request_bytes as usize,
        queued_request_bytes: limits.queued_request_bytes as usize,
        idle: limits.idle,
        receive_timeout: limits.receive_timeout,
        send_timeout: limits.send_timeout,
        ..Limits::default()
    }
}

/// What the types cannot say. The first fault is returned.
pub fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let server = &loaded.config.server;
    let limits = &loaded.config.limits;
    if server.node_id < 0 {
        return Err(loaded.error("server", "node_id", "`node_id` must not be negative"));
    }
    security::check(loaded)?;
    if loaded.config.listeners.is_empty() && security::is_everywhere(&server.listen) && server.advertised.is_none() {
        let message = format!(
            "`listen` takes connections on every address, so clients must be told which one to use: set `advertised`, \
             for example advertised = \"localhost:{}\"",
            server.listen.port
        );
        return Err(loaded.error("server", "listen", message));
    }
    if limits.connections == 0 {
        return Err(loaded.error("limits", "connections", "`connections` must be at least 1"));
    }
    if !(1024..=i32::MAX as u64).contains(&limits.request_bytes) {
        return Err(loaded.error("limits", "request_bytes", "`request_bytes` must be from 1KiB to 2147483647"));
    }
    if limits.queued_request_bytes < limits.request_bytes {
        return Err(loaded.error(
            "limits",
            "queued_request_bytes",
            "`queued_request_bytes` must be at least `request_bytes`, or the largest request could never be read",
        ));
    }
    let log = &loaded.config.log;
    if !((1 << 20)..=(2 << 30)).contains(&log.segment_bytes) {
        return Err(loaded.error("log", "segment_bytes", "`segment_bytes` must be from 1MiB to 2GiB"));
    }
    if log.max_bytes != 0 && log.max_bytes < 2 * log.segment_bytes {
        let message =
            "`max_bytes` must be 0 or at least twice `segment_bytes`: cleaning writes a new file before it removes one";
        return Err(loaded.error("log", "max_bytes", message));
    }
    for (key, value) in [
        ("index_cache_bytes", log.index_cache_bytes),
        ("index_memtable_bytes", log.index_memtable_bytes),
        ("index_flush_bytes", log.index_flush_bytes),
    ] {
        if value < 1 << 20 {
            return Err(loaded.error("log", key, format!("`{key}` must be at least 1MiB")));
        }
    }
    for (key, value) in
        [("idle", limits.idle), ("receive_timeout", limits.receive_timeout), ("send_timeout", limits.send_timeout)]
    {
        if value.is_zero() {
            return Err(loaded.error("limits", key, format!("`{key}` must not be zero")));
        }
    }
    if let Err(error) = loaded.config.logging.filter.parse::<tracing_subscriber::filter::Targets>() {
        return Err(loaded.error("logging", "filter", format!("not a log filter: {error}")));
    }
    share_of_requests(
        loaded,
        ["logging".into(), "requests".into(), "sample".into()],
        loaded.config.logging.requests.sample,
    )?;
    share_of_requests(loaded, ["traces".into(), "sample".into()], loaded.config.traces.sample)?;
    if let Some(endpoint) = &loaded.config.traces.endpoint {
        traces::check(endpoint).map_err(|why| loaded.error("traces", "endpoint", why))?;
    }
    kafka_configs(loaded)?;
    policy(&loaded.config).map_err(|why| loaded.error("security", "super_users", why))?;
    rules(loaded).map(drop)
}

fn share_of_requests(loaded: &Loaded, path: impl Into<Vec<Step>>, share: f64) -> Result<(), ConfigError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    let message = format!("`sample` is {share}; it must be from 0 to 1 (0.01 is one in a hundred)");
    Err(loaded.fault(&Fault::new(path, message)))
}

/// Who may do everything, and what no ACL decides; the error names a user that is none.
pub fn policy(config: &Config) -> Result<Policy, String> {
    let user =
        |text: &String| Principal::parse(text).ok_or_else(|| format!("\"{text}\" is no user: write \"User:name\""));
    let super_users = config.security.super_users.iter().map(user).collect::<Result<_, _>>()?;
    Ok(Policy { super_users, allow_if_no_acl: config.security.allow_everyone_if_no_acl_found })
}

/// The features' rules, filters included.
pub fn rules(loaded: &Loaded) -> Result<Rules, ConfigError> {
    let rules = loaded.rules()?;
    for (index, view) in rules.views.iter().enumerate() {
        if let Err(FilterError { column, message }) = Expression::parse(&view.filter) {
            let path = vec!["views".into(), index.into(), "filter".into()];
            let message = format!("column {column}: {message}");
            return Err(loaded.fault(&Fault { path, column: Some(column), message }));
        }
    }
    Ok(rules)
}

fn kafka_configs(loaded: &Loaded) -> Result<(), ConfigError> {
    let table = krocket_broker::config::broker::table();
    for (name, value) in &loaded.config.kafka {
        if let Some((_, own)) = OWN_KEYS.iter().find(|(kafka, _)| kafka == name) {
            return Err(loaded.error("kafka", name, format!("`{name}` is `{own}` in [server]")));
        }
        let Some(def) = krocket_broker::config::find(table, name) else {
            let known: Vec<&str> = table.iter().map(|def| def.name).collect();
            let meant = krocket_config::error::nearest(name, &known);
            let meant = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
            return Err(loaded.error("kafka", name, format!("krocket has no broker config `{name}`{meant}")));
        };
        if let Err(error) = def.check_file(value) {
            return Err(loaded.error("kafka", name, error.to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use krocket_config::{Override, load};

    fn refuse(section: &str, key: &str, value: &str) -> String {
        let loaded = load(None, vec![Override::flag("--it", section, key, value)]).expect("well-formed");
        check(&loaded).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_share_of_requests_is_at_most_all_of_them() {
        let sections = ["logging.requests", "traces"];
        for (section, sample) in
            sections.iter().flat_map(|section| ["1.5", "-0.1", "nan"].map(|sample| (section, sample)))
        {
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            let text = format!("[{section}]\nsample = {sample}\n");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
            let loaded = load(Some(file.path()), vec![]).expect("well-formed");
            let message = check(&loaded).expect_err("must be refused").to_string();
            assert!(message.contains(":2:10: `sample` is") && message.contains("from 0 to 1"), "{message}");
        }
    }

    #[test]
    fn a_filter_is_marked_where_it_goes_wrong() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = "[[views]]\nname = \"v\"\nsource = \"orders\"\nfilter = \"\\u0061 = 1 AND ) b\"\n";
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        let loaded = load(Some(file.path()), vec![]).expect("well-formed");

        let message = check(&loaded).expect_err("must be refused").to_string();

        let column = 1 + text.lines().nth(3).and_then(|line| line.find(')')).expect("there");
        assert!(message.contains(&format!(":4:{column}: column 11: ")), "{message}");
        assert!(message.ends_with(&format!("\n  | {}^", " ".repeat(column - 1))), "{message}");
    }

    #[test]
    fn the_defaults_pass() {
        check(&load(None, vec![]).expect("loads")).expect("passes");
    }

    #[test]
    fn the_defaults_are_the_parts_own() {
        let defaults = Config::default();
        assert_eq!(format!("{:?}", log(&defaults)), format!("{:?}", LogConfig::default()));
        assert_eq!(format!("{:?}", limits(&defaults)), format!("{:?}", Limits::default()));
        assert_eq!(format!("{:?}", broker(&defaults, &[9092], None)), format!("{:?}", Settings::default()));
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence() {
        for (section, key, value, expected) in [
            ("server", "node_id", "-1", "must not be negative"),
            ("server", "listen", "0.0.0.0:9092", "set `advertised`, for example advertised = \"localhost:9092\""),
            ("limits", "connections", "0", "at least 1"),
            ("limits", "request_bytes", "3GiB", "from 1KiB"),
            ("limits", "queued_request_bytes", "1MiB", "at least `request_bytes`"),
            ("limits", "idle", "0s", "must not be zero"),
            ("log", "segment_bytes", "3GiB", "from 1MiB to 2GiB"),
            ("log", "index_cache_bytes", "0", "at least 1MiB"),
            ("logging", "filter", "a=b=c", "not a log filter"),
            ("kafka", "num.partition", "3", "did you mean `num.partitions`?"),
            ("kafka", "num.partitions", "0", "num.partitions"),
            ("kafka", "log.dirs", "/x", "`log.dirs` is `data_dir` in [server]"),
        ] {
            let message = refuse(section, key, value);
            assert!(message.starts_with("--it: ") && message.contains(expected), "{message}");
        }
    }
}
