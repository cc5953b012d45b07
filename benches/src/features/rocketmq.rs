//! RocketMQ beside krocket: a broker from Maven Central, measured by a program of its own client, benches/rocketmq.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::report::{Number, Numbers};
use super::{MIB, Work};
use crate::process::peak_memory;
use crate::server::{Places, check_interrupted, free_port, run};

/// Beyond the settings that the broker comes with: pulls may bring what krocket's fetches bring.
const SETTINGS: [&str; 2] = ["maxTransferCountOnMessageInMemory=1000", "maxTransferBytesOnMessageInMemory=1048576"];
/// Slots of the timer wheel of a tenth of a second instead of the second that it comes with.
const PRECISE: &str = "timerPrecisionMs=100";

/// RocketMQ's program, compiled, and its jars.
pub(super) struct Peer {
    script: PathBuf,
    /// How tables call it, e.g. `RocketMQ 5.5.0`.
    pub(super) label: String,
    home: PathBuf,
    class_path: String,
    data: PathBuf,
}

impl Peer {
    /// Fetches and compiles; the error says what is missing.
    pub(super) fn new(places: &Places) -> Result<Self> {
        let script = &places.rocketmq_script;
        let asked = |what: &str| run(Command::new(script).arg(what));
        let home = PathBuf::from(asked("fetch")?);
        let label = format!("RocketMQ {}", asked("version")?);
        let jars = asked("classpath")?;
        let data = places.data.join(format!("rocketmq-{}", std::process::id()));
        let classes = data.join("classes");
        let class_path = format!("{}:{jars}", classes.display());
        let peer = Self { script: script.clone(), label, home, class_path, data };
        fs::create_dir_all(&classes)?;
        let mut javac = Command::new("javac");
        javac.args(["-nowarn", "-cp", &jars, "-d"]).arg(&classes).arg(&places.rocketmq_program);
        run(&mut javac).context("compiling needs javac (Debian: apt-get install default-jdk-headless)")?;
        Ok(peer)
    }

    /// Measures a row; nothing where RocketMQ has nothing of the kind.
    pub(super) fn measure(&self, work: &Work, numbers: &mut Numbers) -> Result<()> {
        let (name, count, seconds) = match *work {
            Work::Delay { count, seconds } => ("delay", count, seconds),
            Work::Pending { count } => ("pending", count, 0),
            Work::Views { count } => ("views", count, 0),
            Work::LookUps { count } => ("lookups", count, 0),
            Work::Retries { count } => ("retries", count, 0),
            Work::Price { .. } => return Ok(()),
        };
        let arguments = [name, &count.to_string(), &seconds.to_string()];
        let delays = matches!(work, Work::Delay { .. });
        let mut broker = self.broker(if delays { &[PRECISE] } else { &[] })?;
        self.program(&broker, &arguments, numbers)?;
        if let Work::Pending { .. } = work {
            let restart = broker.crash()?;
            numbers.add("start after kill -9", restart.as_secs_f64() * 1e3, "ms");
            thread::sleep(Duration::from_secs(2));
            numbers.add("peak memory after the start", peak_memory(broker.pid)? / MIB, "MiB");
        }
        drop(broker);
        if delays {
            let mut coarse = Numbers::default();
            self.program(&self.broker(&[])?, &arguments, &mut coarse)?;
            for number in coarse.0.iter().filter(|n| n.metric.starts_with("lateness") || n.metric == "delivered") {
                numbers.add(&format!("{}, slots of 1 s", number.metric), number.value, &number.unit);
            }
        }
        Ok(())
    }

    fn broker(&self, settings: &[&str]) -> Result<Broker> {
        let settings = SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let folder = self.data.join("broker");
        let mut broker = Broker { script: self.script.clone(), folder, port: free_port()?, settings, pid: 0 };
        broker.start()?;
        Ok(broker)
    }

    /// Runs the program to its end; its standard output is a number a line.
    fn program(&self, broker: &Broker, work: &[&str], numbers: &mut Numbers) -> Result<()> {
        let (out, complaints) = (self.data.join("numbers"), self.data.join("complaints"));
        let mut child = Command::new("java")
            .arg("-Xmx1G")
            .arg("--add-opens=java.base/java.nio=ALL-UNNAMED")
            .arg(format!("-Drmq.logback.configurationFile={}", self.home.join("conf/logback.xml").display()))
            .arg(format!("-Duser.home={}", self.data.display()))
            .args(["-cp", &self.class_path, "Bench"])
            .args([&format!("127.0.0.1:{}", broker.port), &broker.pid.to_string(), "row"])
            .args(work)
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&complaints)?)
            .spawn()
            .context("starting java")?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Err(interrupted) = check_interrupted() {
                child.kill()?;
                child.wait()?;
                return Err(interrupted);
            }
            thread::sleep(Duration::from_millis(50));
        };
        for line in fs::read_to_string(&out)?.lines() {
            let number: Number = serde_json::from_str(line).with_context(|| format!("the program printed {line:?}"))?;
            numbers.0.push(number);
        }
        ensure!(status.success(), "{}", complaint(&complaints));
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// Why the program ended early: what it says from the exception on, without its client's warnings before.
fn complaint(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.iter().position(|line| line.starts_with("Exception in thread"));
    let from = from.unwrap_or(lines.len().saturating_sub(10));
    lines[from..].iter().take(10).copied().collect::<Vec<_>>().join("\n")
}

/// A running broker. Dropping it stops it and removes its data.
struct Broker {
    script: PathBuf,
    folder: PathBuf,
    /// Of its name server.
    port: u16,
    settings: Vec<String>,
    pid: u32,
}

impl Broker {
    fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.script);
        command.args(["start", "--port", &self.port.to_string(), "--dir"]).arg(&self.folder);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        self.pid = run(&mut command)?.parse().context("the script's answer isn't a pid")?;
        Ok(())
    }

    /// Kills it and starts it again on the same data; the time until clients find it.
    fn crash(&mut self) -> Result<Duration> {
        let pid = Pid::from_raw(self.pid as i32).context("no pid")?;
        kill_process(pid, Signal::KILL)?;
        // It is gone once it has no memory any more.
        while peak_memory(self.pid).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        let started = Instant::now();
        self.start()?;
        Ok(started.elapsed())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = run(Command::new(&self.script).args(["stop", "--dir"]).arg(&self.folder));
        let _ = fs::remove_dir_all(&self.folder);
    }
}
