//! A whole krocket in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use krocket::exit::Failure;
use krocket::reload::Current;
use krocket::server::{Server, raise_open_files};
use krocket_broker::Settings;
use krocket_config::Config;
use krocket_config::schema::HostPort;
use tempfile::TempDir;

use crate::{Client, soon};

/// A running krocket on free ports with a data folder of its own.
pub struct Krocket {
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    config: Config,
    server: Server,
    folder: Option<TempDir>,
}

impl Krocket {
    /// Starts one with the defaults, except that groups form without delay.
    pub async fn start() -> Self {
        Krocket::start_with(|_| {}).await
    }

    /// Starts one with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Krocket::config(&folder.path().join("data"), Config::default());
        change(&mut config);
        Krocket::run(config, Some(folder)).await
    }

    /// The configuration of a test, on free ports.
    fn config(data_dir: &Path, mut config: Config) -> Config {
        config.server.listen = HostPort::new("127.0.0.1", 0);
        config.server.http = HostPort::new("127.0.0.1", 0);
        config.server.data_dir = data_dir.to_owned();
        config.server.shutdown_grace = Duration::from_secs(5);
        config.kafka.insert("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned());
        config
    }

    /// Starts one on this data folder, from a configuration as in a file, with settings changed that a file has not: the
    /// file system and the clock.
    pub async fn open(data_dir: &Path, toml: &str, tune: impl FnOnce(&mut Settings) + Send) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("krocket.toml");
        std::fs::write(&file, toml).expect("a file can be written");
        let loaded = krocket_config::load(Some(&file), Vec::new()).expect("a configuration");
        let config = Krocket::config(data_dir, loaded.config);
        raise_open_files();
        let current = Current::fixed(&config).expect("rules");
        let server = soon("starting krocket", Server::start_tuned(current, None, Box::new(tune))).await?;
        Ok(Krocket { kafka: server.kafka, http: server.http, config, server, folder: None })
    }

    /// Stops it after its log has failed, which closes with an error.
    pub async fn abandon(self) {
        let _ = soon("stopping krocket", self.server.stop()).await;
    }

    async fn run(config: Config, folder: Option<TempDir>) -> Self {
        // Both ends of a test's connections are in this process.
        raise_open_files();
        let server = soon("starting krocket", Server::start(&config, None)).await.expect("starts");
        Krocket { kafka: server.kafka, http: server.http, config, server, folder }
    }

    /// Connects a client.
    pub async fn client(&self) -> Client {
        Client::connect(self.kafka).await
    }

    /// Where clients of this listener connect.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.server.listeners.iter().find(|(its, _)| its == name);
        found.unwrap_or_else(|| panic!("no listener {name}")).1
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.config.server.data_dir
    }

    /// Stops it cleanly; the data folder goes with what is returned.
    pub async fn stop(self) -> Stopped {
        soon("stopping krocket", self.server.stop()).await.expect("the log closes");
        Stopped { config: self.config, folder: self.folder }
    }

    /// Stops it cleanly and starts it again on the same data.
    pub async fn restart(self) -> Self {
        self.stop().await.start().await
    }
}

/// A krocket that was stopped, with its data.
pub struct Stopped {
    config: Config,
    folder: Option<TempDir>,
}

impl Stopped {
    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.config.server.data_dir.clone()
    }

    /// Starts again on the same data, on other ports.
    pub async fn start(self) -> Krocket {
        Krocket::run(self.config, self.folder).await
    }
}
