"""krocket's own features, as any Kafka client meets them: record headers, topic names, nothing else."""
import json
import os
import threading
import time
import urllib.request

from scenario import PREFIX, Client, Record, Skip, check, same, until


def http(path, body):
    """What an operator does; the features themselves need no HTTP."""
    request = urllib.request.Request(os.environ["KROCKET_HTTP"] + path, json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def need_krocket():
    if not os.environ.get("KROCKET_HTTP"):
        raise Skip("only krocket has it")


def header(record, name):
    """The value of the last header of this name, as text."""
    values = [v for k, v in record.headers if (k.decode() if isinstance(k, bytes) else k) == name]
    check(values, f"no header {name} in {record.headers}")
    return values[-1].decode()


def refused(produce, why):
    try:
        produce()
    except Exception:  # noqa: BLE001 - every client has its own
        return
    raise AssertionError(f"accepted: {why}")


def view_group(cases):
    """Two members share a view: each record that matches arrives once, no other, and nothing is left to read."""
    need_krocket()
    client, partitions, count = cases.client, 4, 400
    topic = cases.new_topic("view", partitions)
    view = f"{topic}--paid--refunded"
    tags = [b"new", b"paid", b"lost||refunded", None, b"paid too"]
    records = [Record(b"k%d" % i, b"%d" % i, [("TAGS", tags[i % 5]) if tags[i % 5] else ("x", b"y")], i % partitions)
               for i in range(count)]
    wanted = {r.value for i, r in enumerate(records) if i % 5 in (1, 2)}
    client.produce(topic, records[:100], "none")
    lock, seen, errors, stops, threads = threading.Lock(), [], [], [], []

    def start():
        stop = threading.Event()

        def received(got):
            with lock:
                seen.extend(r.value for r in got)

        def run():
            try:
                client.member(view, view, "classic", received, stop)
            except BaseException as error:  # noqa: BLE001 - handed to the case
                errors.append(error)

        stops.append(stop)
        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    def distinct():
        if errors:
            raise errors[0]
        with lock:
            return set(seen)

    try:
        start()
        until(lambda: len(distinct()) == 40, "the first member gets what is there", 30)
        start()
        client.produce(topic, records[100:250], "gzip")
        until(lambda: len(distinct()) == 100, "records that come while the group rebalances", 30)
        client.produce(topic, records[250:], "none")
        until(lambda: distinct() == wanted, "all records that match", 30)
    finally:
        for stop in stops:
            stop.set()
        for thread in threads:
            thread.join(30)
    if errors:
        raise errors[0]
    same(len(seen), len(wanted), "records delivered")
    for partition in range(partitions):
        _, end = client.watermarks(view, partition)
        same(client.committed(view, view, partition), end, f"committed offset and end of partition {partition}")
    refused(lambda: client.produce(view, [Record(None, b"x")]), "a record produced to a view")


def delay_cancel(cases):
    """A delayed record arrives when it is due and not before; a cancelled one never does."""
    need_krocket()
    client, topic = cases.client, cases.new_topic("delay")
    began = int(time.time() * 1000)
    offsets = client.produce(topic, [
        Record(b"k", b"late", [("TIMER_DELAY_MS", b"2000"), ("a", b"b")]),
        Record(b"k", b"now", [("a", b"b")]),
        Record(b"k", b"cancelled", [("TIMER_DELAY_SEC", b"1"), ("UNIQ_KEY", b"u-1")]),
    ])
    if offsets is not None:
        same(offsets, [0, 1, 2], "offsets: a delayed record has its own")
    client.produce(topic, [Record(b"k", b"x", [("TIMER_DEL_UNIQKEY", b"u-1")])])
    same(client.watermarks(topic, 0), (0, 2), "watermarks: up to the last record that can be read")
    got = client.read(topic, 0, 0, lambda records: len(records) >= 2)
    same([r.value for r in got], [b"now", b"late"], "records")
    check(got[1].timestamp >= began + 2000, f"delivered {got[1].timestamp - began} ms after it was sent, due after 2000")
    check(got[1].timestamp < began + 4000, f"delivered {got[1].timestamp - began} ms after it was sent, due after 2000")
    same(header(got[1], "ORIGIN_MESSAGE_ID"), f"{topic}:0:0", "ORIGIN_MESSAGE_ID")
    same(header(got[1], "a"), "b", "the record's own header")
    refused(lambda: client.produce(topic, [Record(b"k", b"x", [("TIMER_DEL_UNIQKEY", b"u-2")])]), "a cancel of nothing")
    refused(lambda: client.produce(topic, [Record(b"k", b"x", [("TIMER_DELAY_MS", b"soon")])]), "TIMER_DELAY_MS=soon")


def retry_dead_redrive(cases):
    """A consumer fails until the record is dead; an operator sends it back to where it came from."""
    need_krocket()
    client, topic, group = cases.client, cases.new_topic("bills"), f"{PREFIX}.billing"
    retry, dlq = f"retry.{group}", f"dlq.{group}"
    client.produce(topic, [Record(b"k", b"bill 7", [("a", b"b")])])
    record = client.group_read(group, topic, 1)[0]
    until(lambda: {retry, dlq} <= set(client.topics()), "the topics that come with the group")
    origin = ("ORIGIN_MESSAGE_ID", b"%s:0:0" % topic.encode())
    position = 0
    for attempt in (1, 2):
        if attempt == 1:  # the record itself
            nack = Record(record.key, record.value, [*record.headers, origin, ("ERROR", b"no money")])
        else:  # its id
            nack = Record(b"", b"", [*[h for h in record.headers if h[0] == "RECONSUME_TIMES"], origin, ("ERROR", b"no money")])
        client.produce(retry, [nack])
        record = client.read(retry, 0, position, lambda records: len(records) >= 1)[0]
        position = record.offset + 1
        same((record.key, record.value), (b"k", b"bill 7"), f"record of attempt {attempt}")
        same(header(record, "RECONSUME_TIMES"), str(attempt), "RECONSUME_TIMES")
        same(header(record, "ORIGIN_MESSAGE_ID"), f"{topic}:0:0", "ORIGIN_MESSAGE_ID")
        same(header(record, "REAL_TOPIC"), topic, "REAL_TOPIC")
        same(header(record, "a"), "b", "the record's own header")
    headers = [h for h in record.headers if h[0] != "ERROR"] + [("ERROR", b"still no money")]
    client.produce(retry, [Record(record.key, record.value, headers)])
    dead = client.read(dlq, 0, 0, lambda records: len(records) >= 1)[0]
    same((dead.key, dead.value), (b"k", b"bill 7"), "the dead letter")
    same(header(dead, "__dlq.errors.topic"), topic, "__dlq.errors.topic")
    same(header(dead, "__dlq.errors.group"), group, "__dlq.errors.group")
    same(header(dead, "__dlq.errors.message"), "still no money", "__dlq.errors.message")
    refused(lambda: client.produce(dlq, [Record(b"k", b"x")]), "a record produced to a DLQ")
    http(f"/v1/dlq/{group}/redrive", {"all": True})
    again = client.read(topic, 0, 1, lambda records: len(records) >= 1)[0]
    same((again.key, again.value), (b"k", b"bill 7"), "the redriven record")


def half_check(cases):
    """The producer dies between its half messages and their ends; another of its group is asked and answers."""
    need_krocket()
    client, topic, producers = cases.client, cases.new_topic("half"), f"{PREFIX}.shop"
    half = [("TRAN_MSG", b"true"), ("PGROUP", producers.encode()), ("CHECK_IMMUNITY_TIME_IN_SECONDS", b"1")]
    client.produce(topic, [
        Record(b"1", b"paid", [*half, ("UNIQ_KEY", b"h-1")]),
        Record(b"2", b"not paid", [*half, ("UNIQ_KEY", b"h-2")]),
        Record(b"3", b"ended in time", [*half, ("UNIQ_KEY", b"h-3")]),
    ])
    same(client.watermarks(topic, 0), (0, 0), "watermarks: half messages cannot be read")
    client.produce(topic, [Record(b"3", b"x", [("TRAN_END", b"COMMIT"), ("UNIQ_KEY", b"h-3")])])
    got = client.read(topic, 0, 0, lambda records: len(records) >= 1)
    same([r.value for r in got], [b"ended in time"], "the committed one")
    questions = f"check.{producers}"
    until(lambda: questions in client.topics(), "the check topic")
    asked = client.group_read(f"{producers}.checkers", questions, 2)
    same(sorted(r.value for r in asked), [b"not paid", b"paid"], "half messages that are asked about")
    for question in asked:
        verdict = b"COMMIT" if question.value == b"paid" else b"ROLLBACK"
        origin = header(question, "ORIGIN_MESSAGE_ID").encode()
        client.produce(topic, [Record(b"x", b"x", [("TRAN_END", verdict), ("ORIGIN_MESSAGE_ID", origin)])])
    got = client.read(topic, 0, 0, lambda records: len(records) >= 2)
    same([r.value for r in got], [b"ended in time", b"paid"], "what consumers see")
    refused(lambda: client.produce(topic, [Record(b"x", b"x", [("TRAN_END", b"COMMIT"), ("UNIQ_KEY", b"h-2")])]),
            "a commit after the rollback")



def transactions(cases):
    """What is committed is seen whole, what is aborted never; offsets go with their transaction; a successor fences."""
    client, topic, copy, group = cases.client, cases.new_topic("txn"), cases.new_topic("txn-copy"), f"{PREFIX}.txn-group"
    producer = client.transactional(f"{PREFIX}.txn")
    for name, commit in (("a", True), ("b", False), ("c", True)):
        producer.begin()
        producer.produce(topic, [Record(b"k", f"{name}{i}".encode()) for i in range(5)])
        producer.end(commit)
    wanted = [f"{name}{i}".encode() for name in "ac" for i in range(5)]
    got = client.read_committed(topic, 0, len(wanted))
    same([r.value for r in got], wanted, "what is committed")
    producer.begin()
    producer.produce(copy, [Record(r.key, r.value) for r in got])
    producer.offset(group, topic, 0, got[-1].offset + 1)
    producer.end(True)
    same(client.committed(group, topic, 0), got[-1].offset + 1, "the offset of the transaction")
    successor = client.transactional(f"{PREFIX}.txn")

    def late():
        producer.begin()
        producer.produce(copy, [Record(b"k", b"late")])
        producer.end(True)

    refused(late, "a producer that has a successor")
    successor.begin()
    successor.produce(copy, [Record(b"k", b"last")])
    successor.end(True)
    got = client.read_committed(copy, 0, len(wanted) + 1)
    same([r.value for r in got], [*wanted, b"last"], "the copy")


def share(cases):
    """Two members take a topic's records one by one: none lost, none held by both, released ones come twice."""
    client, count = cases.client, 2000
    if type(client).share_member is Client.share_member:
        raise Skip("no share groups (KIP-932)")
    topic = cases.new_topic("share", 3)
    group = f"{topic}-group"
    client.group_configs(group, {"share.auto.offset.reset": "earliest"})
    lock, holders, deliveries, done, errors, takers, stop = threading.Lock(), {}, {}, set(), [], set(), threading.Event()

    def fate(value):
        n = int(value)
        if n % 500 == 250:
            return "reject"
        return "release" if n % 100 == 0 and deliveries[value] == 1 else "accept"

    def taker(name):
        def take(records, counts):
            with lock:
                for r, delivery in zip(records, counts):
                    check(r.value not in holders, f"{r.value} is held by {holders.get(r.value)}, and came to {name}")
                    holders[r.value] = name
                    deliveries[r.value] = deliveries.get(r.value, 0) + 1
                    same(delivery, deliveries[r.value], f"delivery count of {r.value}")
                    takers.add(name)
                fates = [fate(r.value) for r in records]
                for r, one in zip(records, fates):
                    del holders[r.value]  # before the broker knows
                    if one != "release":
                        check(r.value not in done, f"{r.value} came again after it was done")
                        done.add(r.value)
                return fates

        def run():
            try:
                client.share_member(group, topic, take, stop)
            except BaseException as error:  # noqa: BLE001 - handed to the case
                errors.append(error)

        return threading.Thread(target=run, daemon=True)

    threads = [taker("one"), taker("two")]
    for thread in threads:
        thread.start()
    try:
        # In several goes, so that both members have joined before the last.
        for start in range(0, count, count // 10):
            client.produce(topic, [Record(b"k", b"%d" % n, [], n % 3) for n in range(start, start + count // 10)])
            until(lambda: errors or len(done) == start + count // 10, f"{start + count // 10} records done", 40)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    if errors:
        raise errors[0]
    same(len(done), count, "records done")
    same(len(takers), 2, "members that took records")
    for n in range(count):
        same(deliveries[b"%d" % n], 2 if n % 100 == 0 else 1, f"deliveries of {n}")
    if not os.environ.get("KROCKET_HTTP"):
        return  # Kafka 4.3 has no dead letters
    dlq = f"dlq.{group}"
    until(lambda: dlq in client.topics(), dlq)
    partitions = range(client.topics()[dlq])
    until(lambda: sum(client.watermarks(dlq, p)[1] for p in partitions) == 4, "four dead letters")
    found = set()
    for end, p in [(client.watermarks(dlq, p)[1], p) for p in partitions]:
        for r in client.read(dlq, p, 0, lambda records: len(records) >= end) if end else []:
            n = int(r.value)
            found.add(n)
            for name, wanted in (("topic", topic), ("partition", n % 3), ("offset", n // 3), ("group", group),
                                 ("delivery.count", 1)):
                same(header(r, f"__dlq.errors.{name}"), str(wanted), f"__dlq.errors.{name}")
    same(found, {250, 750, 1250, 1750}, "dead letters")


def share_renew(cases):
    raise Skip("no renewal in the Python clients' share consumers")


CASES = {"transactions": transactions, "share": share, "share-renew": share_renew, "view-group": view_group,
         "delay-cancel": delay_cancel, "retry-dead-redrive": retry_dead_redrive, "half-check": half_check}
