"""The broker under test. Only processes started here are stopped, by their id."""
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


class BrokerError(Exception):
    pass


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def kill_group(process):
    """Ends a driver with what it started; it leads a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def answers(port):
    """Whether an ApiVersions v0 request is answered."""
    body = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            s.settimeout(2)
            s.sendall(struct.pack(">i", len(body)) + body)
            head = s.recv(8, socket.MSG_WAITALL)
            return len(head) == 8 and struct.unpack(">ii", head)[1] == 7
    except OSError:
        return False


class Running:
    """A broker that somebody else runs."""

    restarts = False
    operator = None

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.name = bootstrap

    def start(self):
        pass

    def stop(self):
        pass


# Waits that a test can wait for.
CONFIG = """
[kafka]
"group.streams.min.session.timeout.ms" = 1000
"group.streams.session.timeout.ms" = 6000
"group.streams.min.heartbeat.interval.ms" = 100
"group.streams.heartbeat.interval.ms" = 500

[[retry]]
groups = ["*"]
backoff = { steps = ["200ms"] }
max_attempts = 2
"""


class Krocket:
    restarts = True
    name = "krocket"

    def __init__(self, work, config=CONFIG):
        self.binary = os.environ.get("KROCKET_BIN") or str(ROOT / "target" / "release" / "krocket")
        self.port, self.http = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.operator = f"http://127.0.0.1:{self.http}"
        self.data = work / "krocket-data"
        self.log = work / "krocket.log"
        self.config = work / "krocket.toml"
        self.config.write_text(config)
        self.process = None

    def listen(self):
        return ["--listen", self.bootstrap]

    def start(self):
        command = [self.binary, "serve", *self.listen(), "--http", f"127.0.0.1:{self.http}",
                   "--data-dir", str(self.data), "--config", str(self.config)]
        try:
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            raise BrokerError(f"{self.binary} does not start: {error}") from error
        deadline = time.monotonic() + 30
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BrokerError(f"krocket does not answer (exit code {self.process.poll()}), see {self.log}")
            time.sleep(0.05)

    def stop(self, how="term"):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if how == "term":
                raise BrokerError("krocket did not end within 30 s of SIGTERM") from None

    def restart(self, how):
        self.stop(how)
        self.start()


class Listeners(Krocket):
    """krocket with several listeners: `config` has a {port} for each name, the first of which is open to everybody."""

    def __init__(self, work, names, config):
        super().__init__(work, config="")
        ports = dict(zip(names, free_ports(len(names))))
        self.config.write_text(config.format(**ports))
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self.port = ports[names[0]]
        self.bootstrap = self.addresses[names[0]]

    def listen(self):
        return []


class Kafka:
    """Apache Kafka, with intervals short enough for the group and compaction cases."""

    restarts = True
    operator = None
    name = "kafka"
    script = ROOT / "tests" / "peers" / "kafka"
    settings = {
        "log.cleaner.backoff.ms": "500",
        "group.consumer.min.heartbeat.interval.ms": "500",
        "group.consumer.heartbeat.interval.ms": "1000",
        "group.streams.min.session.timeout.ms": "1000",
        "group.streams.session.timeout.ms": "6000",
        "group.streams.min.heartbeat.interval.ms": "100",
        "group.streams.heartbeat.interval.ms": "500",
    }

    def __init__(self, work):
        (self.port,) = free_ports(1)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.data = work / "kafka-data"
        self.pid = None

    def call(self, *args):
        environment = {"KAFKA_HEAP_OPTS": "-Xms256M -Xmx512M", **os.environ}
        result = subprocess.run([sys.executable, str(self.script), *args], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if result.returncode != 0:
            raise BrokerError((result.stderr or result.stdout).strip())
        return result.stdout

    def start(self):
        sets = [word for k, v in self.settings.items() for word in ("--set", f"{k}={v}")]
        self.pid = int(self.call("start", "--port", str(self.port), "--dir", str(self.data), *sets).split()[-1])

    def stop(self):
        if self.pid is not None:
            self.call("stop", "--dir", str(self.data))
            self.pid = None

    def restart(self, how):
        if how == "kill":
            os.kill(self.pid, signal.SIGKILL)
            while Path(f"/proc/{self.pid}").exists():
                time.sleep(0.05)
            self.pid = None
        self.stop()
        self.start()
