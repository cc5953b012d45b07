"""The scenario for clients that are driven from Python: a driver supplies a `Client`, the cases are here.

See ../../README.md for what a driver is given and has to print.
"""
import json
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Callable, Optional

CLIENT = os.environ.get("KROCKET_CLIENT", "client")
BOOTSTRAP = os.environ.get("KROCKET_BOOTSTRAP", "127.0.0.1:9092")
PREFIX = os.environ.get("KROCKET_PREFIX", "scenario")


def load():
    with open(os.environ["KROCKET_SCENARIO"], encoding="utf-8") as file:
        return json.load(file)


class Skip(Exception):
    """The client cannot do what the case asks; the message says why."""


class TopicExists(Exception):
    """The broker answered TOPIC_ALREADY_EXISTS."""


@dataclass
class Record:
    key: Optional[bytes] = None
    value: Optional[bytes] = None
    headers: list = field(default_factory=list)  # of (str or bytes, bytes or None)
    partition: int = 0
    timestamp: Optional[int] = None
    offset: int = -1

    def content(self):
        return (self.key, self.value, list(self.headers))


class Client:
    """What a driver implements; records are produced with acks=all and every call waits for its result."""

    header_keys = str  # bytes where the client takes keys that are not UTF-8
    null_headers = True
    unsendable = ()  # pairs of key and value, of None and b"", that the client refuses or drops
    empty_header_names = True
    lost_at_exit = 0  # records that a leaving member of a group may take without handing them on
    header_bytes = bytes(range(256))  # what a header's value can hold
    payload_headers = True  # whether every record of a batch can have headers of its own
    timestamps = True  # whether a producer can set them

    def create_topic(self, topic, partitions, configs):
        raise Skip("no admin API")

    def topics(self):
        """All topics: name to number of partitions."""
        raise NotImplementedError

    def configs(self, topic):
        raise Skip("no DescribeConfigs")

    def add_partitions(self, topic, total):
        raise Skip("no CreatePartitions")

    def delete_topic(self, topic):
        raise Skip("no DeleteTopics")

    def delete_records(self, topic, partition, before):
        """Returns the new low watermark."""
        raise Skip("no DeleteRecords")

    def produce(self, topic, records, codec="none", idempotent=False):
        """Returns the offset of each record, or None when the client does not tell."""
        raise NotImplementedError

    def watermarks(self, topic, partition):
        """(earliest, latest)"""
        raise NotImplementedError

    def offset_for_time(self, topic, partition, timestamp):
        """The first offset at or after a timestamp in ms, or None."""
        raise NotImplementedError

    def read(self, topic, partition, offset, enough: Callable[[list], bool], seconds=30):
        """Records of one partition without a group, until enough(records) or the time is up."""
        raise NotImplementedError

    def member(self, group, topic, protocol, received: Callable, stop: threading.Event):
        """One member of a group: hands batches to received(records), commits each, leaves when stop is set."""
        raise NotImplementedError

    def group_read(self, group, topic, count, protocol="classic"):
        """Joins, takes exactly `count` records, commits the position after them, leaves; returns the records."""
        raise NotImplementedError

    def committed(self, group, topic, partition):
        raise NotImplementedError

    def transactional(self, transactional_id):
        """A producer with begin(), produce(topic, records), offset(group, topic, partition, offset) and end(commit)."""
        raise Skip("no transactions")

    def group_configs(self, group, values):
        """Sets configs of a group."""
        raise Skip("no group configs")

    def share_member(self, group, topic, take: Callable, stop: threading.Event):
        """One member of a share group until stop is set: take(records, delivery counts) says accept, release or reject
        for each."""
        raise Skip("no share groups (KIP-932)")

    def read_committed(self, topic, partition, count):
        """As many records of one partition, under read_committed."""
        raise NotImplementedError


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def same(got, wanted, what):
    check(got == wanted, f"{what}: got {short(got)}, wanted {short(wanted)}")


def short(value):
    text = repr(value)
    return text if len(text) < 160 else text[:160] + "..."


def until(condition, what, seconds=15):
    """Waits for a state that the broker reaches in its own time."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.05)


def payload(i, headers=True):
    """A record that shows any change of a byte: sizes from 0, every byte value, empty and binary headers."""
    own = [("i", b"%d" % i), ("empty", b""), ("bytes", bytes([0xFF, 0xFE, 0, i & 0xFF]))]
    return Record(
        key=b"key-%05d" % i,
        value=bytes((i + j * 7) & 0xFF for j in range(i * 37 % 1000)),
        headers=own if headers else [("payload", b"")],
    )


class Cases:
    def __init__(self, client: Client, scenario):
        self.client = client
        self.scenario = scenario
        self.compacted_total = 0

    def payload(self, i):
        return payload(i, self.client.payload_headers)

    def new_topic(self, case, partitions=1, configs=None):
        topic = f"{PREFIX}.{case}"
        self.client.create_topic(topic, partitions, configs or {})
        until(lambda: self.client.topics().get(topic) == partitions, f"{topic} in the metadata")
        # A leader that isn't ready yet would make producers without idempotence retry, which may change the order.
        for partition in range(partitions):
            self.until_it_works(lambda: self.client.watermarks(topic, partition))
        return topic

    @staticmethod
    def until_it_works(call):
        def works():
            try:
                call()
                return True
            except Exception as error:  # noqa: BLE001
                print(error, file=sys.stderr)
                return False

        until(works, "the partition has a leader")

    def read_all(self, topic, count, partition=0):
        return self.client.read(topic, partition, 0, lambda records: len(records) >= count)

    def round_trip(self, case, records, codec="none"):
        topic = self.new_topic(case)
        offsets = self.client.produce(topic, records, codec)
        if offsets is not None:
            same(offsets, list(range(len(records))), "offsets of the acknowledgements")
        got = self.read_all(topic, len(records))
        same([r.offset for r in got], list(range(len(records))), "offsets")
        for i, (one, other) in enumerate(zip(got, records)):
            same(one.content(), other.content(), f"record {i}")

    def topics(self):
        p = self.scenario["topics"]
        topic = self.new_topic("topics", p["partitions"], p["configs"])
        try:
            self.client.create_topic(topic, p["partitions"], {})
            check(False, "creating a topic twice was not refused")
        except TopicExists:
            pass
        try:
            configs = self.client.configs(topic)
        except Skip:
            configs = None
        if configs is not None:
            for name, value in p["configs"].items():
                same(configs.get(name), value, name)
        try:
            self.client.add_partitions(topic, p["more_partitions"])
        except Skip:
            return
        until(lambda: self.client.topics().get(topic) == p["more_partitions"], "the added partitions")

    def compression(self, codec):
        records = [self.payload(i) for i in range(self.scenario["compression"]["records"])]
        self.round_trip(f"compression-{codec}", records, codec)

    def header_duplicates(self):
        headers = [("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"1")]
        if self.client.empty_header_names:
            headers.append(("", b"no name"))
        if self.client.null_headers:
            headers.append(("null", None))
        self.round_trip("header-duplicates", [Record(b"k", b"v", headers), Record(b"k", b"v", [])])

    def header_binary_values(self):
        self.round_trip("header-binary-values", [Record(b"k", b"v", [("bytes", self.client.header_bytes), ("ü", b"\xc3\x28")])])

    def header_binary_keys(self):
        if self.client.header_keys is not bytes:
            raise Skip("header keys are strings")
        self.round_trip("header-binary-keys", [Record(b"k", b"v", [(b"\xff\xfe", b"1"), (b"\xc3\x28", b"2")])])

    def nulls(self):
        self.round_trip("nulls", [
            Record(k, v) for k in (None, b"", b"k") for v in (None, b"", b"v")
            if (k, v) not in self.client.unsendable
        ])

    def idempotence(self):
        p = self.scenario["idempotence"]
        topic = self.new_topic("idempotence", p["partitions"])
        per_partition = p["records"] // p["partitions"]
        records = [Record(b"k", b"%d" % i, partition=i % p["partitions"]) for i in range(p["records"])]
        self.client.produce(topic, records, idempotent=True)
        self.in_order(topic, p["partitions"], per_partition)

    def order(self):
        p = self.scenario["order"]
        topic = self.new_topic("order", p["partitions"])
        total = p["partitions"] * p["records_per_partition"]
        self.client.produce(topic, [Record(None, b"%d" % i, partition=i % p["partitions"]) for i in range(total)])
        self.in_order(topic, p["partitions"], p["records_per_partition"])

    def in_order(self, topic, partitions, per_partition):
        for partition in range(partitions):
            got = self.read_all(topic, per_partition, partition)
            same(len(got), per_partition, f"records in partition {partition}")
            for n, record in enumerate(got):
                same((record.offset, record.value), (n, b"%d" % (n * partitions + partition)), f"partition {partition}")
            same(self.client.watermarks(topic, partition), (0, per_partition), f"watermarks of {partition}")

    def group(self, protocol):
        p = self.scenario["group"]
        topic = self.new_topic(f"group-{protocol}", p["partitions"])
        group = f"{PREFIX}.group-{protocol}"
        lock = threading.Lock()
        seen = []  # (member, partition, offset, value)
        stops = {name: threading.Event() for name in "abc"}
        threads, errors = {}, []
        produced = []
        full = threading.Event()

        def start(name):
            def received(records):
                with lock:
                    seen.extend((name, r.partition, r.offset, r.value) for r in records)

            def run():
                try:
                    self.client.member(group, topic, protocol, received, stops[name])
                except BaseException as error:  # noqa: BLE001 - handed to the case
                    errors.append(error)

            threads[name] = threading.Thread(target=run, daemon=True)
            threads[name].start()

        def feed():
            try:
                n = 0
                while not full.is_set():
                    batch = [Record(None, b"%d" % (n + i), partition=(n + i) % p["partitions"]) for i in range(12)]
                    self.client.produce(topic, batch)
                    produced.extend(r.value for r in batch)
                    n += len(batch)
                    full.wait(p["interval_ms"] * len(batch) / 1000)
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        def wait(condition, what):
            def holds():
                if errors:
                    raise errors[0]
                with lock:
                    return condition()

            until(holds, what, 40)

        def count(name, since=0):
            return sum(1 for s in seen[since:] if s[0] == name)

        try:
            start("a")
            start("b")
            feeder = threading.Thread(target=feed, daemon=True)
            feeder.start()
            wait(lambda: min(count("a"), count("b")) >= p["records_each"], "two members both get records")
            start("c")
            wait(lambda: count("c") >= p["records_each"], "the third member gets records")
            stops["a"].set()
            threads["a"].join(30)
            with lock:
                mark = len(seen)
            wait(
                lambda: {s[1] for s in seen[mark:]} == set(range(p["partitions"]))
                and min(count("b", mark), count("c", mark)) > 0,
                "the other two take over",
            )
            full.set()
            feeder.join(30)
            enough = len(produced) - self.client.lost_at_exit
            wait(lambda: len({s[3] for s in seen}) >= enough, "every record is consumed")
        finally:
            full.set()
            for event in stops.values():
                event.set()
            for thread in threads.values():
                thread.join(30)
        if errors:
            raise errors[0]
        distinct = {s[3] for s in seen}
        lost = set(produced) - distinct
        check(len(lost) <= self.client.lost_at_exit, f"{len(lost)} of {len(produced)} records lost")
        same(len(seen), len(distinct), "records delivered, with duplicates")
        committed = sum(self.client.committed(group, topic, n) for n in range(p["partitions"]))
        check(0 <= len(produced) - committed <= self.client.lost_at_exit,
              f"the committed offsets sum up to {committed}, wanted {len(produced)}")

    def timestamps_case(self):
        p = self.scenario["timestamps"]
        topic = self.new_topic("timestamps")
        n, step = p["records"], p["step_ms"]
        half = n // 2
        base = int(time.time() * 1000) - 3600_000
        records = [Record(b"k", b"%d" % i, timestamp=base + i * step) for i in range(n)]
        if self.client.timestamps:
            self.client.produce(topic, records)
        else:
            self.client.produce(topic, records[:half])
            time.sleep(1)
            self.client.produce(topic, records[half:])
        got = self.read_all(topic, n)
        same(len(got), n, "records")
        if self.client.timestamps:
            same([r.timestamp for r in got], [r.timestamp for r in records], "timestamps")
        at = got[half].timestamp
        same(self.client.offset_for_time(topic, 0, at - 5), half, "offset for a time between two records")
        same(self.client.offset_for_time(topic, 0, base - 5), 0, "offset for a time before the first")
        later = self.client.offset_for_time(topic, 0, got[-1].timestamp + 5)
        check(later in (None, -1, n), f"offset for a time after the last: {later}")
        sought = self.client.read(topic, 0, half, lambda records: len(records) >= n - half)
        same((sought[0].offset, sought[0].timestamp), (half, at), "first record after the seek")

    def delete_records(self):
        p = self.scenario["delete-records"]
        topic = self.new_topic("delete-records")
        self.client.produce(topic, [Record(None, b"%d" % i) for i in range(p["records"])])
        same(self.client.delete_records(topic, 0, p["before"]), p["before"], "low watermark")
        same(self.client.watermarks(topic, 0), (p["before"], p["records"]), "watermarks")
        left = p["records"] - p["before"]
        got = self.client.read(topic, 0, p["before"], lambda records: len(records) >= left)
        same([r.offset for r in got], list(range(p["before"], p["records"])), "offsets left")

    def delete_topic(self):
        topic = self.new_topic("delete-topic")
        self.client.produce(topic, [Record(None, b"old")] * 3)
        self.client.delete_topic(topic)
        until(lambda: topic not in self.client.topics(), "the topic is gone")

        def create():
            try:
                self.client.create_topic(topic, 1, {})
                return True
            except TopicExists:  # the deletion may still be under way
                return False

        until(create, "the topic can be created again")
        until(lambda: self.client.topics().get(topic) == 1, "the new topic in the metadata")
        same(self.client.watermarks(topic, 0), (0, 0), "watermarks of the new topic")
        same(self.client.produce(topic, [Record(None, b"new")]), [0], "first offset in the new topic")

    def prepare_compacted(self):
        """Written first, so that the broker can compact while the other cases run."""
        p = self.scenario["compacted"]
        topic = self.new_topic("compacted", 1, p["configs"])
        keys, rounds = p["keys"], p["rounds"]
        self.client.produce(topic, [Record(b"k%d" % (i % keys), b"%d" % i) for i in range(keys * rounds)])
        time.sleep(0.5)  # longer than segment.ms: the next batch rolls the segment
        self.client.produce(topic, [Record(b"last", b"1")])
        time.sleep(0.5)
        self.client.produce(topic, [Record(b"last", b"2")])
        self.compacted_total = keys * rounds + 2

    def compacted(self):
        p = self.scenario["compacted"]
        topic, keys, total = f"{PREFIX}.compacted", p["keys"], self.compacted_total

        def read(offset=0):
            return self.client.read(topic, 0, offset, lambda records: records[-1].offset == total - 1)

        until(lambda: len(read()) <= keys + 2, "the topic is compacted", 60)
        got = read()
        offsets = [r.offset for r in got]
        same(offsets, sorted(set(offsets)), "ascending offsets")
        latest = {r.key: r.value for r in got}
        wanted = {b"k%d" % k: b"%d" % (keys * (p["rounds"] - 1) + k) for k in range(keys)}
        same({k: v for k, v in latest.items() if k != b"last"}, wanted, "last value of every key")
        same(read(offsets[0] // 2)[0].offset, offsets[0], "first record after an offset in a gap")
        same(self.client.watermarks(topic, 0)[1], total, "end of the log")

    def group_restart(self):
        return f"{PREFIX}.restart", f"{PREFIX}.restart"

    def commit(self):
        p = self.scenario["restart"]
        topic = self.new_topic("restart")
        self.client.produce(topic, [self.payload(i) for i in range(p["records"])])
        self.resume(0, p["first"])

    def resume(self, start, count):
        group = topic = f"{PREFIX}.restart"
        if start:
            # kafka-python assigns nothing, for minutes, when the broker doesn't have the partition's leader yet.
            until(lambda: self.client.topics().get(topic) == 1, f"{topic} in the metadata", 30)
            self.until_it_works(lambda: self.client.watermarks(topic, 0))
            self.wait_committed(group, topic, start)
        got = self.client.group_read(group, topic, count)
        for i, record in enumerate(got):
            same((record.offset, record.content()), (start + i, self.payload(start + i).content()), f"record {i}")
        same(len(got), count, "records")
        same(self.client.committed(group, topic, 0), start + count, "committed offset")

    def wait_committed(self, group, topic, wanted):
        """A coordinator that has just started may ask for patience, which some clients hand on as an error or as 0."""
        got = None

        def loaded():
            nonlocal got
            try:
                got = self.client.committed(group, topic, 0)
            except Exception as error:  # noqa: BLE001
                got = error
            return got == wanted

        try:
            until(loaded, "")
        except AssertionError:
            same(got, wanted, "committed offset")

    def restart_term(self):
        p = self.scenario["restart"]
        self.resume(p["first"], p["second"])

    def restart_kill(self):
        p = self.scenario["restart"]
        start = p["first"] + p["second"]
        self.resume(start, p["records"] - start)


def main(client: Client):
    import features  # it builds on what is above

    cases = Cases(client, load())
    table = {
        **{name: (lambda case=case: case(cases)) for name, case in features.CASES.items()},
        "topics": cases.topics,
        **{f"compression-{c}": (lambda c=c: cases.compression(c)) for c in ("none", "gzip", "snappy", "lz4", "zstd")},
        "header-duplicates": cases.header_duplicates,
        "header-binary-values": cases.header_binary_values,
        "header-binary-keys": cases.header_binary_keys,
        "nulls": cases.nulls,
        "idempotence": cases.idempotence,
        "order": cases.order,
        **{f"group-{g}": (lambda g=g: cases.group(g)) for g in ("classic", "cooperative", "consumer")},
        "timestamps": cases.timestamps_case,
        "delete-records": cases.delete_records,
        "delete-topic": cases.delete_topic,
        "compacted": cases.compacted,
        "commit": cases.commit,
        "restart-term": cases.restart_term,
        "restart-kill": cases.restart_kill,
    }
    failed = False
    asked = sys.argv[1:]
    prepared = None
    if "compacted" in asked:
        try:
            cases.prepare_compacted()
        except Exception as error:  # noqa: BLE001 - reported by the case
            prepared = error
    for name in asked:
        try:
            if name == "compacted" and prepared:
                raise prepared
            table[name]()
            print(f"PASS {CLIENT} {name}", flush=True)
        except Skip as reason:
            print(f"SKIP {CLIENT} {name}: {reason}", flush=True)
        except Exception as error:  # noqa: BLE001
            failed = True
            traceback.print_exc()
            text = str(error) or type(error).__name__
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            print(f"FAIL {CLIENT} {name}: {kind}{text.splitlines()[0]}", flush=True)
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # a member thread that hangs must not keep the process
