//! The configuration that holds now, and the file it is taken from again when that changes.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use krocket_config::rules::{Live, Rules};
use krocket_config::schema::RELOADED;
use krocket_config::{Config, ConfigError, Fault, Loaded, Override, load};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, register_int_counter_vec};
use tokio_util::sync::CancellationToken;

use crate::settings;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(1);

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

    /// The file's bytes; an error's words where it cannot be read.
    fn bytes(&self) -> Result<Vec<u8>, String> {
        match &self.file {
            Some(file) => std::fs::read(file).map_err(|error| error.to_string()),
            None => Ok(Vec::new()),
        }
    }
}

/// What holds now.
pub struct Current {
    /// The features' rules; the rest of krocket follows them.
    pub rules: Live,
    source: Source,
    /// The file as it was loaded first.
    bytes: Result<Vec<u8>, String>,
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
        Ok(Current::new(config.clone(), Rules::new(config)?, Source::default(), Ok(Vec::new())))
    }

    /// Loads it.
    pub fn load(source: Source) -> Result<Arc<Self>, ConfigError> {
        // Before it is loaded: a change in between is then found by the first look.
        let bytes = source.bytes();
        let (loaded, rules) = source.load()?;
        Ok(Current::new(loaded.config, rules, source, bytes))
    }

    fn new(config: Config, rules: Rules, source: Source, bytes: Result<Vec<u8>, String>) -> Arc<Self> {
        for result in ["ok", "failed"] {
            RELOADS.with_label_values(&[result]);
        }
        Arc::new(Current {
            rules: Live::new(rules),
            source,
            bytes,
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

    fn take(&self, config: Config, rules: Rules) {
        let restart = changed_sections(&self.started, &config);
        let before = self.config.load_full();
        let reloaded =
            |config: &Config| (config.rules.clone(), config.views.clone(), config.retry.clone(), config.names.clone());
        if reloaded(&before) != reloaded(&config) {
            self.rules.set(rules);
        }
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

/// Follows the file until `stop`. Reads the bytes instead of asking for change notices: those miss files that are
/// replaced by rename, and Kubernetes, which swaps a symbolic link to the folder.
pub async fn follow(current: Arc<Current>, stop: CancellationToken) {
    let mut watch = Watch::new(&current);
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        let (looked, current) = (watch, current.clone());
        let look = tokio::task::spawn_blocking(move || {
            let mut watch = looked;
            if watch.changed(&current.source) {
                current.reload();
            }
            watch
        });
        match look.await {
            Ok(looked) => watch = looked,
            Err(error) => {
                tracing::error!(%error, "the configuration file is not followed any more");
                return;
            }
        }
    }
}

/// What the file was like.
struct Watch {
    /// As it was last taken over or refused.
    known: Result<Vec<u8>, String>,
    /// As it was a look ago, where that differs.
    seen: Option<Result<Vec<u8>, String>>,
}

impl Watch {
    fn new(current: &Current) -> Self {
        Watch { known: current.bytes.clone(), seen: None }
    }

    /// True once for every change. A change counts when it is seen twice: an editor may be half through writing, and the
    /// first half of a file is often valid.
    fn changed(&mut self, source: &Source) -> bool {
        let bytes = source.bytes();
        if bytes == self.known {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() != Some(&bytes) {
            self.seen = Some(bytes);
            return false;
        }
        self.known = bytes;
        self.seen = None;
        true
    }
}

fn changed_sections(started: &Config, now: &Config) -> Vec<&'static str> {
    let sections = [
        ("server", started.server != now.server),
        ("listeners", started.listeners != now.listeners),
        ("security", started.security != now.security),
        ("limits", started.limits != now.limits),
        ("log", started.log != now.log),
        ("logging", started.logging != now.logging),
        ("metrics", started.metrics != now.metrics),
        ("kafka", started.kafka != now.kafka),
        ("http", started.http != now.http),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section).collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const OFF: &str = "[[rules]]\ntopics = [\"a\"]\nschedule = false\n";

    fn start(file: &Path) -> (Arc<Current>, Watch) {
        let source = Source { file: Some(file.to_owned()), overrides: Vec::new() };
        let current = Current::load(source).expect("valid");
        let watch = Watch::new(&current);
        (current, watch)
    }

    /// Two looks, as `follow` takes them.
    fn look_twice(current: &Current, watch: &mut Watch) -> bool {
        let looks = [watch.changed(&current.source), watch.changed(&current.source)];
        assert!(!looks[0], "a change counts when it was seen twice");
        if looks[1] {
            current.reload();
        }
        looks[1]
    }

    fn schedules(current: &Current) -> bool {
        current.rules.get().topic("a").schedule.is_some()
    }

    #[test]
    fn a_changed_file_is_taken_over_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, "").expect("written");
        let (current, mut watch) = start(&file);
        assert!(!look_twice(&current, &mut watch) && schedules(&current));
        let mut version = current.rules.subscribe();

        std::fs::write(&file, OFF).expect("written");

        assert!(look_twice(&current, &mut watch));
        assert!(!schedules(&current) && version.has_changed().expect("alive"));
        version.mark_unchanged();
        assert!(!look_twice(&current, &mut watch));
        assert_eq!((current.state().taken, current.state().error), (1, None));

        // By rename, as most editors do.
        let new = folder.path().join("new");
        std::fs::write(&new, OFF.replace("false", "true")).expect("written");
        std::fs::rename(&new, &file).expect("renamed");
        assert!(look_twice(&current, &mut watch) && schedules(&current));
    }

    #[test]
    fn an_invalid_file_keeps_the_rules_and_says_why_until_it_is_mended() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, OFF).expect("written");
        let (current, mut watch) = start(&file);

        std::fs::write(&file, "[[rules]]\ntopics = [\"a\"]\nshedule = true\n").expect("written");

        assert!(look_twice(&current, &mut watch) && !schedules(&current));
        let error = current.state().error.expect("an error");
        assert!(error.contains("krocket.toml:3:1: unknown key `shedule`") && error.ends_with("| ^^^^^^^"), "{error}");
        assert_eq!(current.state().refused, 1);

        std::fs::remove_file(&file).expect("removed");
        assert!(look_twice(&current, &mut watch) && !schedules(&current));
        assert!(current.state().error.expect("an error").contains("cannot read it"));

        std::fs::write(&file, OFF).expect("written");
        assert!(look_twice(&current, &mut watch) && current.state().error.is_none());
    }

    #[test]
    fn a_half_written_file_is_not_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, OFF).expect("written");
        let (current, mut watch) = start(&file);

        std::fs::write(&file, "").expect("written");
        assert!(!watch.changed(&current.source));
        std::fs::write(&file, OFF).expect("written");
        assert!(!look_twice(&current, &mut watch));
    }

    #[test]
    fn a_config_map_is_swapped_by_its_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", OFF), ("v2", "")] {
            std::fs::create_dir(path(version)).expect("a folder");
            std::fs::write(path(version).join("krocket.toml"), text).expect("written");
        }
        std::os::unix::fs::symlink("v1", path("..data")).expect("a link");
        std::os::unix::fs::symlink("..data/krocket.toml", path("krocket.toml")).expect("a link");
        let (current, mut watch) = start(&path("krocket.toml"));
        assert!(!schedules(&current));

        std::os::unix::fs::symlink("v2", path("..data_tmp")).expect("a link");
        std::fs::rename(path("..data_tmp"), path("..data")).expect("swapped");

        assert!(look_twice(&current, &mut watch) && schedules(&current));
    }

    #[test]
    fn other_sections_need_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, "").expect("written");
        let (current, _) = start(&file);
        std::fs::write(&file, format!("[kafka]\nnum.partitions = 7\n{OFF}")).expect("written");

        current.reload();

        assert_eq!(current.state().restart, ["kafka"]);
        assert!(!schedules(&current));
        std::fs::write(&file, "").expect("written");
        current.reload();
        assert!(current.state().restart.is_empty());
    }
}
