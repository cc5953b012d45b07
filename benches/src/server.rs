//! The servers under test: started, watched and stopped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Advice, fadvise, syncfs};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::Aim;
use crate::memory::Filler;
use crate::wire;

/// Set when the run is to end early; checked between measurements.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Servers so far: several of a kind may run at a time.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Krocket,
    Kafka,
    /// On SQLite, the one of its stores that is a local file.
    Nisshi,
}

/// Where things are.
pub(crate) struct Places {
    pub(crate) krocket: PathBuf,
    pub(crate) kafka_script: PathBuf,
    pub(crate) nisshi: Option<PathBuf>,
    pub(crate) rocketmq_script: PathBuf,
    /// What measures RocketMQ, Java.
    pub(crate) rocketmq_program: PathBuf,
    /// Data folders of the servers go below it.
    pub(crate) data: PathBuf,
}

/// A running server. Dropping it stops it and removes its data.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// How tables call it, e.g. `Kafka 4.3.1`.
    pub(crate) label: String,
    pub(crate) aim: Aim,
    pub(crate) folder: PathBuf,
    /// krocket's HTTP port.
    pub(crate) http: u16,
    /// krocket's configuration, TOML.
    config: String,
    child: Option<Child>,
    /// A script for Kafka.
    program: PathBuf,
    filler: Filler,
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Server {
    pub(crate) fn start(kind: Kind, places: &Places) -> Result<Self> {
        Self::start_with(kind, places, "")
    }

    /// krocket with a configuration.
    pub(crate) fn start_with(kind: Kind, places: &Places, config: &str) -> Result<Self> {
        let number = STARTED.fetch_add(1, SeqCst);
        let folder = places.data.join(format!("{kind:?}-{}-{number}", std::process::id()).to_lowercase());
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut server = Self {
            kind,
            label: String::new(),
            aim: Aim { address, pid: 0 },
            filler: Filler::new(&folder)?,
            folder,
            http: free_port()?,
            config: config.to_owned(),
            child: None,
            program: match kind {
                Kind::Krocket => places.krocket.clone(),
                Kind::Kafka => places.kafka_script.clone(),
                Kind::Nisshi => places.nisshi.clone().context("name Nisshi's program with --nisshi")?,
            },
        };
        server.launch()?;
        Ok(server)
    }

    fn launch(&mut self) -> Result<()> {
        match self.kind {
            Kind::Krocket => self.start_krocket(),
            Kind::Kafka => self.start_kafka(),
            Kind::Nisshi => self.start_nisshi(),
        }
    }

    fn start_krocket(&mut self) -> Result<()> {
        self.label = "krocket".into();
        let config = self.folder.join("krocket.toml");
        fs::write(&config, &self.config)?;
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--listen", &self.aim.address.to_string(), "--http", &format!("127.0.0.1:{}", self.http)])
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(self.folder.join("data"));
        self.spawn(&mut command)
    }

    fn start_nisshi(&mut self) -> Result<()> {
        let version = run(Command::new(&self.program).arg("--version"))?;
        self.label = format!("Nisshi {}", version.rsplit(' ').next().unwrap_or_default());
        let url = format!("tcp://{}", self.aim.address);
        let mut command = Command::new(&self.program);
        command
            .args(["--listener-url", &url, "--advertised-listener-url", &url, "--silent"])
            // Within the folder.
            .args(["--storage-engine", "sqlite://nisshi.db"])
            .current_dir(&self.folder);
        self.spawn(&mut command)
    }

    /// Starts a child and waits until it answers.
    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let log_path = self.log_path();
        let log = File::create(&log_path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        self.aim.pid = child.id();
        let child = self.child.insert(child);
        let deadline = Instant::now() + Duration::from_secs(120);
        while !wire::answers(self.aim.address) {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}: {}", self.label, fs::read_to_string(&log_path)?.trim());
            }
            let (label, address, log) = (&self.label, self.aim.address, log_path.display());
            ensure!(Instant::now() < deadline, "{label} does not answer on {address}; see {log}");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{:?}.log", self.kind).to_lowercase())
    }

    fn start_kafka(&mut self) -> Result<()> {
        let version = run(Command::new(&self.program).arg("version"))?;
        self.label = format!("Kafka {version}");
        let mut command = Command::new(&self.program);
        command.args(["start", "--port", &self.aim.address.port().to_string(), "--dir"]).arg(&self.folder);
        self.aim.pid = run(&mut command)?.parse().context("the script's answer isn't a pid")?;
        Ok(())
    }

    /// Stops and starts krocket with an empty folder; for space that its cleaner has not given back yet.
    pub(crate) fn renew(&mut self) -> Result<()> {
        ensure!(self.kind == Kind::Krocket, "only krocket starts quickly enough");
        self.stop();
        fs::remove_dir_all(&self.folder)?;
        fs::create_dir_all(&self.folder)?;
        self.start_krocket()
    }

    /// Kills the server and starts it again on the same data; the time until it answers.
    pub(crate) fn crash(&mut self) -> Result<Duration> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        } else if let Some(pid) = Pid::from_raw(self.aim.pid as i32) {
            kill_process(pid, Signal::KILL)?;
            while Path::new("/proc").join(self.aim.pid.to_string()).exists() {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let started = Instant::now();
        self.launch()?;
        Ok(started.elapsed())
    }

    /// Bytes in the folder.
    pub(crate) fn disk_bytes(&self) -> u64 {
        files(&self.folder).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum()
    }

    /// Waits until everything written is on disk, so that one server's writeback isn't another's load, and makes sure that
    /// free memory is there.
    pub(crate) fn settle(&self) -> Result<()> {
        self.sync()?;
        self.filler.fill()
    }

    fn sync(&self) -> Result<()> {
        Ok(syncfs(File::open(&self.folder)?)?)
    }

    /// Asks the kernel to drop the page cache of the server's files; the memory that this frees is there, too.
    pub(crate) fn drop_cache(&self) -> Result<()> {
        self.sync()?;
        for path in files(&self.folder) {
            // A file that was deleted meanwhile has no cache to drop.
            if let Ok(file) = File::open(&path) {
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
        }
        self.filler.fill()
    }

    /// The end of the server's log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                // It may have ended on its own.
                let _ = kill_process(pid, Signal::TERM);
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.kind == Kind::Kafka {
            let _ = run(Command::new(&self.program).args(["stop", "--dir"]).arg(&self.folder));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        // What a failed run leaves behind is worth a look, the log above all.
        if !thread::panicking() && fs::remove_dir_all(&self.folder).is_err() {
            notice(&self.folder);
        }
    }
}

#[allow(clippy::print_stderr, reason = "a command-line program's own words")]
fn notice(folder: &Path) {
    eprintln!("could not remove {}", folder.display());
}

/// Whether Kafka can run here; the sentence says what is missing.
pub(crate) fn kafka_available(places: &Places) -> Result<(), String> {
    run(Command::new(&places.kafka_script).arg("fetch")).map(drop).map_err(|error| format!("{error:#}"))?;
    match Command::new("java").arg("-version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("java is missing: install it (Debian: apt-get install default-jre-headless)".into()),
    }
}

/// Runs a helper; its standard output without the last newline, or its words of complaint.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() || complaint.trim().is_empty(), "{}", complaint.trim());
    ensure!(output.status.success(), "{} ended with {}", command.get_program().display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// Fails once the user has asked to stop.
pub(crate) fn check_interrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(SeqCst), "interrupted");
    Ok(())
}
