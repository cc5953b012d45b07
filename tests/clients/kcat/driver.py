"""kcat (librdkafka 2.0), one process per call.

It has no admin API, so topics are created by a CreateTopics request written here; its deletions and DeleteRecords skip.
"""
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time

import scenario
from scenario import Client, Record, Skip, TopicExists

KCAT = ["kcat", "-b", scenario.BOOTSTRAP, "-q"]
CREATE_TOPICS, OFFSET_FETCH = 19, 9
# What can't be in a payload of the scenario; kcat splits its input at these.
END, KEY = "\x1e<end>\x1e", "\x1e<key>\x1e"
# Lengths come first: -1 is null.
FORMAT = "%p %o %T %K %S %k%s\x1e%h\x1e\n"


def request(api, version, body):
    host, port = scenario.BOOTSTRAP.rsplit(":", 1)
    client = scenario.CLIENT.encode()
    frame = struct.pack(">hhih", api, version, 1, len(client)) + client + body
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(struct.pack(">i", len(frame)) + frame)
        size, _ = struct.unpack(">ii", s.recv(8, socket.MSG_WAITALL))
        return s.recv(size - 4, socket.MSG_WAITALL)


def string(text):
    return struct.pack(">h", len(text.encode())) + text.encode()


def kcat(*args, data=b"", seconds=40):
    result = subprocess.run(KCAT + list(args), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds)
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"kcat ended with {result.returncode}")
    return result.stdout


def text(name):
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name


def parse(data):
    """The complete records at the start of kcat's output, and what is left of it."""
    records = []
    while True:
        head = re.match(rb"(-?\d+) (-?\d+) (-?\d+) (-?\d+) (-?\d+) ", data)
        if not head:
            return records, data
        partition, offset, timestamp, key_size, size = map(int, head.groups())
        value_at = head.end() + max(key_size, 0)
        at = value_at + max(size, 0)
        end = data.find(b"\x1e\n", at)
        if end < 0:
            return records, data
        headers = []
        for pair in filter(None, data[at + 1:end].split(b",")):
            name, _, value = pair.partition(b"=")
            headers.append((text(name), None if value == b"NULL" else value))
        key = data[head.end():value_at] if key_size >= 0 else None
        value = data[value_at:at] if size >= 0 else None
        records.append(Record(key, value, headers, partition, timestamp, offset))
        data = data[end + 2:]


class Reader:
    """A consuming kcat whose output is parsed as it comes."""

    def __init__(self, *args):
        self.process = subprocess.Popen(KCAT + ["-u", "-f", FORMAT, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = b""

    def take(self):
        chunk = self.process.stdout.read()
        records, self.rest = parse(self.rest + (chunk or b""))
        if not records:
            time.sleep(0.02)
        return records

    def stop(self):
        """Ends it as ctrl-c does: what it has printed is committed, and it leaves its group."""
        self.process.send_signal(signal.SIGINT)
        records = []
        while self.process.poll() is None:
            records += self.take()
        return records + self.take()


class Kcat(Client):
    header_keys = bytes
    header_bytes = bytes(n for n in range(1, 256) if n not in b",=\x1e\n")  # headers are arguments, and printed as text
    payload_headers = False
    lost_at_exit = 1  # a signal makes kcat drop, and commit, the record that its poll then returns (kcat.c, consume_cb)
    empty_header_names = False
    unsendable = [(None, None), (None, b""), (b"", None)]
    timestamps = False

    def __init__(self):
        self.group_config = scenario.load()["group"]

    def create_topic(self, topic, partitions, configs):
        entries = b"".join(string(k) + string(v) for k, v in configs.items())
        one = string(topic) + struct.pack(">ihii", partitions, 1, 0, len(configs)) + entries
        answer = request(CREATE_TOPICS, 2, struct.pack(">i", 1) + one + struct.pack(">i?", 30000, False))
        at = 8 + 2 + len(topic)  # throttle time, number of topics, name
        (code,) = struct.unpack(">h", answer[at:at + 2])
        if code == 36:
            raise TopicExists
        if code:
            raise RuntimeError(f"CreateTopics: error {code}")

    def topics(self):
        found = re.findall(rb'topic "([^"]+)" with (\d+) partitions', kcat("-L"))
        return {name.decode(): int(count) for name, count in found}

    def produce(self, topic, records, codec="none", idempotent=False):
        # A run of kcat has one partition, one set of headers, and either sends empty keys and values as null or doesn't.
        def alike(r):
            return r.partition, r.headers, r.key is None, None in (r.key, r.value)

        for (partition, headers, keyless, nulls), run in itertools.groupby(sorted(records, key=lambda r: r.partition), alike):
            args = ["-P", "-t", topic, "-p", str(partition), "-D", END, "-z", codec,
                    "-X", f"enable.idempotence={str(idempotent).lower()}", "-X", "acks=all"]
            for name, value in headers:
                name = name.encode() if isinstance(name, str) else name
                args += ["-H", name if value is None else name + b"=" + value]
            args += ["-Z"] if nulls else []
            args += [] if keyless else ["-K", KEY]
            lines = [(b"" if keyless else r.key + KEY.encode()) + (r.value or b"") for r in run]
            kcat(*args, data=END.encode().join(lines) + END.encode())
        return None

    def query(self, topic, partition, timestamp):
        printed = kcat("-Q", "-t", f"{topic}:{partition}:{timestamp}")
        return int(re.search(rb"offset (-?\d+)", printed)[1])

    def watermarks(self, topic, partition):
        return self.query(topic, partition, -2), self.query(topic, partition, -1)

    def offset_for_time(self, topic, partition, timestamp):
        return self.query(topic, partition, timestamp)

    def read(self, topic, partition, offset, enough, seconds=30):
        reader = Reader("-C", "-t", topic, "-p", str(partition), "-o", str(offset))
        records, deadline = [], time.monotonic() + seconds
        while not (records and enough(records)) and time.monotonic() < deadline:
            records += reader.take()
        reader.stop()
        return records

    def joining(self, group, topic, protocol):
        p = self.group_config
        if protocol == "consumer":
            raise Skip("no KIP-848 protocol in librdkafka 2.0")
        assignor = "cooperative-sticky" if protocol == "cooperative" else "range"
        return ["-X", f"session.timeout.ms={p['session_timeout_ms']}", "-X", f"heartbeat.interval.ms={p['heartbeat_ms']}",
                "-X", "auto.offset.reset=earliest", "-X", f"partition.assignment.strategy={assignor}", "-G", group, topic]

    def member(self, group, topic, protocol, received, stop):
        reader = Reader(*self.joining(group, topic, protocol))
        while not stop.is_set():
            received(reader.take())
            if reader.process.poll() is not None:
                raise RuntimeError(f"kcat ended with {reader.process.returncode}")
        received(reader.stop())

    def group_read(self, group, topic, count, protocol="classic"):
        return parse(kcat("-u", "-f", FORMAT, "-c", str(count), *self.joining(group, topic, protocol)))[0]

    def committed(self, group, topic, partition):
        """kcat can't ask, so this does."""
        answer = request(OFFSET_FETCH, 1, string(group) + struct.pack(">i", 1) + string(topic)
                         + struct.pack(">ii", 1, partition))
        at = 4 + 2 + len(topic) + 4 + 4  # number of topics, name, number of partitions, partition
        return struct.unpack(">q", answer[at:at + 8])[0]


if __name__ == "__main__":
    scenario.main(Kcat())
