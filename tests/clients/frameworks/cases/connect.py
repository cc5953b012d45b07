"""Kafka Connect, distributed: lines of a file through a topic into a file."""
import json
import urllib.error
import urllib.request

from harness import Failure, brokers, check, until

TOPIC = "lines"


class Cluster:
    """Two workers of one Connect cluster."""

    def __init__(self, case, **settings):
        self.case = case
        (module,) = case.modules
        plugin = next(jar for jar in module.jars() if jar.name.startswith("connect-file"))
        self.ports = brokers.free_ports(2)
        self.workers = {}
        for port in self.ports:
            config = case.work / f"worker-{port}.properties"
            config.write_text("".join(f"{k}={v}\n" for k, v in {
                "bootstrap.servers": case.broker.bootstrap,
                "group.id": "connect",
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
                "value.converter": "org.apache.kafka.connect.storage.StringConverter",
                "config.storage.topic": "connect-configs",
                "offset.storage.topic": "connect-offsets",
                "status.storage.topic": "connect-status",
                "config.storage.replication.factor": 1,
                "offset.storage.replication.factor": 1,
                "status.storage.replication.factor": 1,
                "offset.storage.partitions": 5,
                "offset.flush.interval.ms": 500,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500,
                "scheduled.rebalance.max.delay.ms": 500,
                "consumer.isolation.level": "read_committed",
                "listeners": f"http://127.0.0.1:{port}",
                "plugin.path": plugin,
                **settings,
            }.items()))
            command = module.java("org.apache.kafka.connect.cli.ConnectDistributed", config)
            self.workers[port] = case.program(f"worker-{port}", command)

    def start(self):
        for worker in self.workers.values():
            worker.start()
        for port in self.ports:
            self.ready(port)

    def ready(self, port):
        until(f"the worker at {port} answers", 60, lambda: self.get(port, "/connectors") is not None, self.workers[port])

    @staticmethod
    def call(port, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def get(self, port, path):
        """None while the worker is not ready for it."""
        try:
            return self.call(port, "GET", path)
        except (OSError, urllib.error.URLError):
            return None

    def put(self, port, name, config):
        """Configures a connector; refused while the workers rebalance."""
        def done():
            try:
                self.call(port, "PUT", f"/connectors/{name}/config", config)
                return True
            except urllib.error.HTTPError as error:
                if error.code not in (409, 500, 503):
                    raise Failure(f"{name}: {error.read().decode()}") from error
                return False
            except OSError:
                return False

        until(f"{name} is configured", 60, done)

    def runs_on(self, port, name):
        """The port of the worker with the connector's task."""
        where = []

        def found():
            tasks = (self.get(port, f"/connectors/{name}/status") or {}).get("tasks")
            if tasks and tasks[0]["state"] == "FAILED":
                raise Failure(f"{name}: {tasks[0]['trace']}")
            if tasks and tasks[0]["state"] == "RUNNING":
                where[:] = [int(tasks[0]["worker_id"].rpartition(":")[2])]
            return bool(where)

        until(f"{name} runs", 60, found)
        return where[0]


def append(path, lines):
    with open(path, "a") as file:
        file.writelines(f"{line}\n" for line in lines)


def arrives(path, wanted, seconds=60):
    """The file has these lines, in this order, and no other."""
    def lines():
        return path.read_text().splitlines() if path.exists() else []

    until(f"{path.name} has {len(wanted)} lines", seconds, lambda: len(lines()) >= len(wanted))
    got = lines()
    check(got == wanted, f"{path.name} has {len(got)} lines, wanted {len(wanted)}; the first that differs: "
                         f"{next(((i, a, b) for i, (a, b) in enumerate(zip(got, wanted)) if a != b), 'none')}")


SOURCE = {"connector.class": "FileStreamSource", "tasks.max": "1", "topic": TOPIC, "batch.size": "100"}
SINK = {"connector.class": "FileStreamSink", "tasks.max": "1", "topics": TOPIC}


def restarts(case):
    """Workers and the broker come and go in good order; lines out are lines in."""
    cluster = Cluster(case)
    cluster.start()
    one, two = cluster.ports
    source, target = case.work / "in.txt", case.work / "out.txt"
    lines = [f"line {n}" for n in range(4000)]
    append(source, lines[:1000])
    cluster.put(one, "source", {**SOURCE, "file": str(source)})
    cluster.put(two, "sink", {**SINK, "file": str(target)})
    arrives(target, lines[:1000])

    cluster.workers[one].stop()
    append(source, lines[1000:2000])
    cluster.workers[one].start()
    arrives(target, lines[:2000])
    cluster.ready(one)

    case.crash_broker()
    append(source, lines[2000:3000])
    arrives(target, lines[:3000])

    for worker in cluster.workers.values():
        worker.stop()
    append(source, lines[3000:])
    cluster.start()
    arrives(target, lines)
    check(cluster.call(one, "GET", "/connectors/source/config")["file"] == str(source), "the configuration is lost")
    for worker in cluster.workers.values():
        worker.stop()


def exactly_once(case):
    """exactly.once.source.support: the worker with the task is killed, the broker too; each line is in the topic once."""
    cluster = Cluster(case, **{"exactly.once.source.support": "enabled"})
    cluster.start()
    source, target = case.work / "in.txt", case.work / "out.txt"
    lines = [f"line {n}" for n in range(20_000)]
    case.create(TOPIC, partitions=1)
    append(source, lines[:5000])
    cluster.put(cluster.ports[0], "source", {**SOURCE, "file": str(source), "exactly.once.support": "required",
                                            "transaction.boundary": "poll"})
    where = cluster.runs_on(cluster.ports[0], "source")
    append(source, lines[5000:10_000])
    cluster.workers[where].kill()
    other = next(port for port in cluster.ports if port != where)
    until("the task moves", 60, lambda: cluster.runs_on(other, "source") == other)
    append(source, lines[10_000:15_000])
    case.crash_broker()
    append(source, lines[15_000:])
    cluster.workers[where].start()
    cluster.ready(where)
    got = [record["value"] for record in case.read(TOPIC, len(lines), 90)]
    check(got == lines, f"{len(got)} lines in the topic, wanted {len(lines)}; the first that differs: "
                        f"{next(((i, a, b) for i, (a, b) in enumerate(zip(got, lines)) if a != b), 'none')}")

    cluster.put(where, "sink", {**SINK, "file": str(target)})
    arrives(target, lines)
    for worker in cluster.workers.values():
        worker.stop()
