"""A krocket of its own for each case, and the Java programs that run against it."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common" / "runner"))

import brokers  # noqa: E402
import clients  # noqa: E402


class Failure(Exception):
    """What a case says about the broker or the framework that did not do as it should."""


def check(holds, what):
    if not holds:
        raise Failure(what)


class Module(clients.Java):
    """A Maven module of this folder at a version, with the class path that Maven gives it."""

    def __init__(self, folder, version, pinned="kafka.version", parent="frameworks/"):
        super().__init__(f"framework-{folder}-{version}", version, f"{parent}{folder}")
        self.pinned = pinned

    def jars(self):
        return sorted((self.home() / "lib").glob("*.jar"))

    def java(self, main, *args, options=()):
        home = self.home()
        return ["java", "-Xmx384M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", *options,
                "-cp", f"{home}/target/classes:{home}/lib/*", main, *map(str, args)]


PLAIN = Module("plain", "4.3.1")


class Program:
    """A Java program, started again as often as a case likes."""

    def __init__(self, case, name, command, environment=None):
        self.name = name
        self.command = command
        self.environment = {**os.environ, "KROCKET_BOOTSTRAP": case.broker.bootstrap, **(environment or {})}
        self.log = case.work / f"{name}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, start_new_session=True)
        return self

    def kill(self):
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=40):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within {seconds} s of SIGTERM") from None

    def wait_for(self, line, seconds=60, times=1):
        """Until it has printed this line so many times."""
        until(f"{self.name} prints {line!r} {times} times", seconds,
              lambda: self.log.read_text(errors="replace").splitlines().count(line) >= times, self)

    def ends(self, code, seconds=60):
        try:
            got = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {seconds} s, see {self.log}") from None
        check(got == code, f"{self.name} ended with {got}, not {code}, see {self.log}")


def until(what, seconds, holds, program=None):
    deadline = time.monotonic() + seconds
    while not holds():
        if program is not None and program.process.poll() is not None:
            raise Failure(f"{program.name} ended with {program.process.returncode}, see {program.log}")
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.1)


class Case:
    def __init__(self, name, work, modules, broker):
        self.name = name
        self.work = work / name
        self.work.mkdir()
        self.modules = modules
        self.broker = broker(self.work)
        self.programs = []

    def program(self, name, command, **environment):
        program = Program(self, name, command, environment)
        self.programs.append(program)
        return program

    def close(self):
        for program in self.programs:
            if program.process is not None and program.process.poll() is None:
                program.kill()
        self.broker.stop()

    def crash_broker(self):
        self.broker.restart("kill")

    def create(self, *topics, partitions):
        self.call("create", ",".join(topics), partitions)

    def call(self, *args, seconds=60):
        """Runs the plain client; gives what it printed."""
        with open(self.work / "records.log", "ab") as log:
            done = subprocess.run(PLAIN.java("krocket.Records", *args), stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=log, timeout=seconds,
                                  env={**os.environ, "KROCKET_BOOTSTRAP": self.broker.bootstrap})
        check(done.returncode == 0, f"{args[0]} {args[1]} failed, see {log.name}")
        return done.stdout

    def tool(self, module, main, *args, seconds=60):
        """Runs one of Kafka's command-line classes; gives what it printed."""
        command = module.java(main, "--bootstrap-server", self.broker.bootstrap, *args)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds)
        check(done.returncode == 0, f"{main} {' '.join(args)}: {done.stdout}")
        return done.stdout

    def produce(self, topic, records, rate=100_000):
        """Starts to write (key, timestamp, value)s, each once; the program ends with 0 when all are written."""
        source = self.work / f"{topic}.in"
        source.write_text("".join(f"{key}\t{timestamp}\t{value}\n" for key, timestamp, value in records))
        program = self.program(f"produce-{topic}", PLAIN.java("krocket.Records", "produce", topic, rate))
        with open(source, "rb") as stdin, open(program.log, "ab") as log:
            program.process = subprocess.Popen(program.command, stdin=stdin, stdout=log, stderr=log,
                                               env=program.environment, start_new_session=True)
        return program

    def read(self, topic, count, seconds=60):
        """The committed records, in the order of their offsets, once there are that many or the time is over."""
        lines = self.call("read", topic, count, seconds, seconds=seconds + 30).splitlines()
        return sorted(map(json.loads, lines), key=lambda r: (r["partition"], r["offset"]))

    def values_by_key(self, topic, count, seconds=60):
        """The committed values of each key, in order."""
        found = {}
        for record in self.read(topic, count, seconds):
            found.setdefault(record["key"], []).append(record["value"])
        return found


def same(what, got, wanted):
    """Two dictionaries of lists; names the first difference."""
    for key in sorted(set(got) | set(wanted)):
        a, b = got.get(key, []), wanted.get(key, [])
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            raise Failure(f"{what}: {key}: {len(a)} values, wanted {len(b)}; from {at} on {a[at:at + 4]}, "
                          f"wanted {b[at:at + 4]}")
