"""The clients: what each needs, how it is installed, how its driver is started."""
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("KROCKET_CACHE") or Path.home() / ".cache" / "krocket") / "clients"


def run(command, out, **kwargs):
    subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, **kwargs)


class Client:
    needs = ()  # programs

    def __init__(self, name, version, folder=None):
        self.name = name
        self.version = version
        self.folder = HERE / (folder or name)

    def missing(self):
        return next((program for program in self.needs if not shutil.which(program)), None)

    def cases(self, phase):
        """Those of a phase that are this client's."""
        return list(phase)

    def environment(self):
        return {}

    def prepare(self, out):
        pass

    def command(self):
        raise NotImplementedError

    def install_folder(self, *files):
        """A folder in the cache that is new whenever one of the files that pin the versions is."""
        digest = hashlib.sha256(b"".join((self.folder / f).read_bytes() for f in files)).hexdigest()[:12]
        return CACHE / f"{self.name}-{digest}"

    @staticmethod
    def once(folder, install):
        """Installs into a folder unless that was done before."""
        done = folder / ".complete"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            install()
            done.touch()


class Python(Client):
    def home(self):
        return self.install_folder("requirements.txt")

    def prepare(self, out):
        home = self.home()

        def install():
            run([sys.executable, "-m", "venv", "--clear", home], out)
            run([home / "bin" / "pip", "install", "--disable-pip-version-check", "--no-deps",
                 "-r", self.folder / "requirements.txt"], out)

        self.once(home, install)

    def environment(self):
        return {"PYTHONPATH": str(HERE / "common" / "python"), "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self):
        return [str(self.home() / "bin" / "python"), str(self.folder / "driver.py")]


class Kcat(Client):
    needs = ("kcat",)

    def environment(self):
        return {"PYTHONPATH": str(HERE / "common" / "python"), "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self):
        return [sys.executable, str(self.folder / "driver.py")]


class Node(Client):
    needs = ("node", "npm")

    def home(self):
        return self.install_folder("package.json", "package-lock.json")

    def prepare(self, out):
        home = self.home()

        def install():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(self.folder / name, home)
            run(["npm", "ci", "--no-fund", "--no-audit"], out, cwd=home)

        self.once(home, install)
        # Node looks for packages beside the file that imports them.
        shutil.copy(self.folder / "driver.mjs", home)
        for module in (HERE / "common" / "node").iterdir():
            shutil.copy(module, home)

    def command(self):
        own = self.home() / "node_modules" / "node" / "bin" / "node"
        return [str(own) if own.exists() else "node", str(self.home() / "driver.mjs")]


class Go(Client):
    needs = ("go",)

    def binary(self):
        return CACHE / "bin" / self.name

    def prepare(self, out):
        run(["go", "build", "-mod=readonly", "-o", self.binary(), "."], out, cwd=self.folder)

    def command(self):
        return [str(self.binary())]


class Java(Client):
    needs = ("java", "mvn")
    pinned = "kafka.version"  # the property that is the version

    def home(self):
        return CACHE / self.name

    def prepare(self, out):
        sources = sorted(p for p in self.folder.rglob("*") if p.is_file())
        digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()
        done = self.home() / ".complete"
        if done.exists() and done.read_text() == digest:
            return
        shutil.rmtree(self.home(), ignore_errors=True)
        shutil.copytree(self.folder, self.home())
        run(["mvn", "-q", "-B", f"-D{self.pinned}={self.version}", "package", "dependency:copy-dependencies",
             "-DincludeScope=runtime", "-DoutputDirectory=lib"], out, cwd=self.home())
        done.write_text(digest)

    def command(self):
        home = self.home()
        return ["java", "-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{home}/target/classes:{home}/lib/*",
                "krocket.Driver"]


class KafkaTools(Java):
    """Has cases of its own."""

    def cases(self, phase):
        return ["topics", "configs", "group-configs", "broker", "console", "performance", "verifiable",
                "consumer-groups", "consumer-groups-848", "offsets", "log-dirs", "producers", "copier",
                "transaction-states", "transaction-abandoned", "verifiable-share", "share-groups",
                "quota-configs", "quota-producer"] if "topics" in phase else []


class Console(Java):
    """What a web console asks, with the Java client that it is built with; a case is a screen."""

    screens = {
        "kafbat-ui": ["start", "dashboard", "brokers", "topic-settings", "topic-life", "messages", "groups", "quotas",
                      "acls-disabled"],
        "akhq": ["nodes", "topics", "topic-settings", "topic-life", "messages", "groups", "acls-disabled"],
    }

    def cases(self, phase):
        return list(self.screens[self.console()]) if "topics" in phase else []

    def console(self):
        return next(name for name in self.screens if self.name.startswith(name))


class Rust(Client):
    needs = ("cargo", "cc", "make")

    def prepare(self, out):
        run(["cargo", "build", "--release", "--locked", "--target-dir", CACHE / "rdkafka-target"], out,
            cwd=self.folder)

    def command(self):
        return [str(CACHE / "rdkafka-target" / "release" / "driver")]


ALL = [
    Java("java-4", "4.3.1", "java"),
    Java("java-3.9", "3.9.2", "java"),
    KafkaTools("kafka-tools", "4.3.1"),
    Console("kafbat-ui", "3.9.2", "consoles"),
    Console("kafbat-ui-4", "4.3.1", "consoles"),
    Console("akhq", "3.6.2", "consoles"),
    Node("kafkajs", "2.2.4"),
    Node("platformatic", "2.12.1"),
    Go("franz-go", "1.22.2"),
    Go("sarama", "1.61.1"),
    Go("kafka-go", "0.4.51"),
    Python("confluent-kafka", "2.16.1"),
    Python("kafka-python", "3.0.12"),
    Python("aiokafka", "0.14.0"),
    Rust("rdkafka", "0.39.0"),
    Kcat("kcat", "1.7.1"),
]


def named(name):
    found = [c for c in ALL if c.name == name or c.name.startswith(name + "-")]
    if not found:
        sys.exit(f"run: no client is called {name!r}; there are {', '.join(c.name for c in ALL)}")
    return found
