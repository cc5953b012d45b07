//! The configuration that holds now, and the file it is taken from again when that changes.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use krocket_config::rules::{Live, Rules};
use krocket_config::schema::RELOADED;
use krocket_config::watch::{self, Watch};
use krocket_config::{Config, ConfigError, Fault, Loaded, Override, load};
use krocket_proxy::requests::RequestLog;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, register_int_counter_vec};
use tokio_util::sync::CancellationToken;

use crate::settings;

static RELOADS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "krocket_config_reloads_total",
        "How often a changed configuration file was taken over, or refused.",
        &["result"]
    )
    .expect("the name is valid and registered once")
});

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// Variables and flags.
    pub overrides: Vec<Override>,
}

impl Source {
    /// Reads and checks everything.
    pub fn load(&self) -> Result<(Loaded, Rules), ConfigError> {
        let loaded = load(self.file.as_deref(), self.overrides.clone())?;
        settings::check(&loaded)?;
        let rules = settings::rules(&loaded)?;
        Ok((loaded, rules))
    }

    fn watch(&self) -> Watch {
        Watch::new(self.file.clone()).0
    }
}

/// What holds now.
pub struct Current {
    /// The features' rules; the rest of krocket follows them.
    pub rules: Live,
    /// Which requests are logged and traced.
    pub requests: Arc<RequestLog>,
    source: Source,
    watch: Mutex<Watch>,
    /// What the process was started with: what is not reloaded still holds.
    started: Config,
    config: ArcSwap<Config>,
    state: Mutex<State>,
}

/// How reloading goes.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// When the rules were taken over, epoch ms.
    pub since_ms: u64,
    /// Changes that were taken over.
    pub taken: u64,
    /// Changes that were refused.
    pub refused: u64,
    /// Why the file as it is now is refused; `None` when it is in force.
    pub error: Option<String>,
    /// Sections that differ from what krocket was started with and need a restart.
    pub restart: Vec<&'static str>,
}

impl Current {
    /// Without a file to look at.
    pub fn fixed(config: &Config) -> Result<Arc<Self>, Fault> {
        Ok(Current::new(config.clone(), Rules::new(config)?, Source::default(), Source::default().watch()))
    }

    /// Loads it.
    pub fn load(source: Source) -> Result<Arc<Self>, ConfigError> {
        // Before it is loaded: a change in between is then found by the first look.
        let watch = source.watch();
        let (loaded, rules) = source.load()?;
        Ok(Current::new(loaded.config, rules, source, watch))
    }

    fn new(config: Config, rules: Rules, source: Source, watch: Watch) -> Arc<Self> {
        for result in ["ok", "failed"] {
            RELOADS.with_label_values(&[result]);
        }
        let requests = Arc::new(RequestLog::default());
        tell(&requests, &config);
        Arc::new(Current {
            rules: Live::new(rules),
            requests,
            source,
            watch: Mutex::new(watch),
            started: config.clone(),
            config: ArcSwap::from_pointee(config),
            state: Mutex::new(State { since_ms: now_ms(), ..State::default() }),
        })
    }

    /// The configuration with the rules that hold now; sections that need a restart are as the file has them.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The file.
    pub fn file(&self) -> Option<&PathBuf> {
        self.source.file.as_ref()
    }

    /// How reloading goes.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Reads the file again. An invalid one changes nothing, and the log says why.
    pub fn reload(&self) {
        match self.source.load() {
            Ok((loaded, rules)) => self.take(loaded.config, rules),
            Err(error) => self.refuse(error.to_string()),
        }
    }

    fn look(&self) {
        if self.watch.lock().look().is_some() {
            self.reload();
        }
    }

    fn take(&self, config: Config, rules: Rules) {
        let restart = changed_sections(&self.started, &config);
        let before = self.config.load_full();
        let reloaded =
            |config: &Config| (config.rules.clone(), config.views.clone(), config.retry.clone(), config.names.clone());
        if reloaded(&before) != reloaded(&config) {
            self.rules.set(rules);
        }
        tell(&self.requests, &config);
        self.config.store(Arc::new(config));
        let mut state = self.state.lock();
        state.since_ms = now_ms();
        state.taken += 1;
        state.error = None;
        state.restart = restart;
        RELOADS.with_label_values(&["ok"]).inc();
        tracing::info!("the configuration was read again; {} hold as the file has them", RELOADED.join(", "));
        if !state.restart.is_empty() {
            tracing::warn!(sections = state.restart.join(", "), "changed sections need a restart of krocket");
        }
    }

    fn refuse(&self, error: String) {
        RELOADS.with_label_values(&["failed"]).inc();
        {
            let mut state = self.state.lock();
            state.refused += 1;
            state.error = Some(error.clone());
        }
        tracing::error!("the changed configuration is refused and the rules stay as they were: {error}");
    }
}

/// Follows the file until `stop`.
pub async fn follow(current: Arc<Current>, stop: CancellationToken) {
    stop.run_until_cancelled(watch::follow(move || current.look())).await;
}

fn changed_sections(started: &Config, now: &Config) -> Vec<&'static str> {
    let sections = [
        ("server", started.server != now.server),
        ("listeners", started.listeners != now.listeners),
        ("security", started.security != now.security),
        ("limits", started.limits != now.limits),
        ("log", started.log != now.log),
        ("logging", (&started.logging.filter, started.logging.format) != (&now.logging.filter, now.logging.format)),
        ("traces", traces(started) != traces(now)),
        ("metrics", started.metrics != now.metrics),
        ("kafka", started.kafka != now.kafka),
        ("http", started.http != now.http),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section).collect()
}

/// What of `[traces]` is not taken over.
fn traces(config: &Config) -> (&Option<String>, &str) {
    (&config.traces.endpoint, &config.traces.service_name)
}

/// Which requests are logged and traced from now on.
fn tell(requests: &RequestLog, config: &Config) {
    requests.log(config.logging.requests.sample, config.logging.requests.slow);
    requests.trace(if config.traces.endpoint.is_some() { config.traces.sample } else { 0.0 });
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const OFF: &str = "[[rules]]\ntopics = [\"a\"]\nschedule = false\n";

    fn start(file: &Path) -> Arc<Current> {
        let source = Source { file: Some(file.to_owned()), overrides: Vec::new() };
        Current::load(source).expect("valid")
    }

    /// Two looks, as `follow` takes them; true when they found a change.
    fn look_twice(current: &Current) -> bool {
        let changes = || current.state().taken + current.state().refused;
        let before = changes();
        current.look();
        current.look();
        changes() > before
    }

    fn schedules(current: &Current) -> bool {
        current.rules.get().topic("a").schedule.is_some()
    }

    #[test]
    fn a_changed_file_is_taken_over_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, "").expect("written");
        let current = start(&file);
        assert!(!look_twice(&current) && schedules(&current));
        let mut version = current.rules.subscribe();

        std::fs::write(&file, OFF).expect("written");

        assert!(look_twice(&current));
        assert!(!schedules(&current) && version.has_changed().expect("alive"));
        version.mark_unchanged();
        assert!(!look_twice(&current));
        assert_eq!((current.state().taken, current.state().error), (1, None));

        // By rename, as most editors do.
        let new = folder.path().join("new");
        std::fs::write(&new, OFF.replace("false", "true")).expect("written");
        std::fs::rename(&new, &file).expect("renamed");
        assert!(look_twice(&current) && schedules(&current));
    }

    #[test]
    fn an_invalid_file_keeps_the_rules_and_says_why_until_it_is_mended() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, OFF).expect("written");
        let current = start(&file);

        std::fs::write(&file, "[[rules]]\ntopics = [\"a\"]\nshedule = true\n").expect("written");

        assert!(look_twice(&current) && !schedules(&current));
        let error = current.state().error.expect("an error");
        assert!(error.contains("krocket.toml:3:1: unknown key `shedule`") && error.ends_with("| ^^^^^^^"), "{error}");
        assert_eq!(current.state().refused, 1);

        std::fs::remove_file(&file).expect("removed");
        assert!(look_twice(&current) && !schedules(&current));
        assert!(current.state().error.expect("an error").contains("cannot read it"));

        std::fs::write(&file, OFF).expect("written");
        assert!(look_twice(&current) && current.state().error.is_none());
    }

    #[test]
    fn other_sections_need_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, "").expect("written");
        let current = start(&file);
        std::fs::write(&file, format!("[kafka]\nnum.partitions = 7\n{OFF}")).expect("written");

        current.reload();

        assert_eq!(current.state().restart, ["kafka"]);
        assert!(!schedules(&current));
        std::fs::write(&file, "").expect("written");
        current.reload();
        assert!(current.state().restart.is_empty());
    }
}
