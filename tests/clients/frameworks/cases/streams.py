"""Kafka Streams with exactly_once_v2: the exact result although everything is killed on the way."""
import random
import re
import time
from collections import Counter

from harness import check, same, until

GROUP_COMMAND = "org.apache.kafka.tools.streams.StreamsGroupCommand"

WORDS = [f"w{n}" for n in range(200)]


def counted(keys):
    """What a count writes: every step, each once."""
    return {key: [str(n + 1) for n in range(total)] for key, total in Counter(keys).items()}


def streams_wordcount(case):
    """The same with the streams protocol (KIP-1071)."""
    wordcount(case, STREAMS_GROUP_PROTOCOL="streams")


def streams_joins(case):
    """The same with the streams protocol (KIP-1071)."""
    joins(case, STREAMS_GROUP_PROTOCOL="streams")


def wordcount(case, **environment):
    """Two instances of two threads; each is killed and comes back with its state folder, and the broker too."""
    (module,) = case.modules
    app = "wordcount"
    dice = random.Random(1)
    lines = [" ".join(dice.choices(WORDS, k=5)) for _ in range(9000)]
    wanted = counted(word for line in lines for word in line.split())

    case.create(f"{app}.lines", f"{app}.counts", partitions=4)
    a, b = (case.program(name, module.java("krocket.Streams", "wordcount", app, case.work / name), **environment).start()
            for name in ("a", "b"))
    a.wait_for("RUNNING")
    b.wait_for("RUNNING")
    producer = case.produce(f"{app}.lines", [(n, "", line) for n, line in enumerate(lines)], rate=400)

    time.sleep(4)
    a.kill()
    a.start()
    a.wait_for("RUNNING", times=2)
    case.crash_broker()
    time.sleep(3)
    b.kill()
    a.kill()
    b.start()
    a.start()
    producer.ends(0)
    same("counts", case.values_by_key(f"{app}.counts", sum(map(len, wanted.values())), 90), wanted)
    a.stop()
    b.stop()


def joins(case, **environment):
    """A table join, a stream join and windows; the one instance loses its state folder as well."""
    (module,) = case.modules
    app = "joins"
    dice = random.Random(2)
    customers = [f"c{n}" for n in range(50)]
    start = int(time.time()) // 60 * 60_000
    orders = [(dice.choice(customers), start + 10 * n, f"o{n}") for n in range(6000)]
    payments = [(order, timestamp + 500, f"p{order}") for _, timestamp, order in orders if dice.random() < 0.5]

    case.create(*(f"{app}.{t}" for t in ("customers", "orders", "payments", "named", "paid", "windows")), partitions=3)
    case.produce(f"{app}.customers", [(c, start - 1000, c.upper()) for c in customers]).ends(0)
    a = case.program("a", module.java("krocket.Streams", "joins", app, case.work / "a"), **environment).start()
    a.wait_for("RUNNING")
    producers = [case.produce(f"{app}.orders", orders, rate=500), case.produce(f"{app}.payments", payments, rate=250)]
    time.sleep(4)
    a.kill()
    a.command[-1] = str(case.work / "elsewhere")
    a.start()
    a.wait_for("RUNNING", times=2)
    case.crash_broker()
    for producer in producers:
        producer.ends(0)

    named, paid = {}, {}
    for customer, _, order in orders:
        named.setdefault(customer, []).append(f"{customer.upper()}:{order}")
    for order, _, payment in payments:
        paid[order] = [f"{order}={payment}"]
    windows = counted(f"{customer}@{timestamp // 10_000 * 10_000}" for customer, timestamp, _ in orders)
    same("named", case.values_by_key(f"{app}.named", len(orders), 90), named)
    same("paid", case.values_by_key(f"{app}.paid", len(payments)), paid)
    same("windows", case.values_by_key(f"{app}.windows", len(orders)), windows)
    a.stop()


def sharing(case):
    """Two instances share the tasks, as Kafka's own tool tells; one leaves and the other has all of them."""
    module, tools = case.modules
    app = "sharing"
    lines = [" ".join(random.Random(n).choices(WORDS, k=5)) for n in range(4000)]
    wanted = counted(word for line in lines for word in line.split())
    case.create(f"{app}.lines", f"{app}.counts", partitions=4)
    a, b = (case.program(name, module.java("krocket.Streams", "wordcount", app, case.work / name),
                         STREAMS_GROUP_PROTOCOL="streams").start() for name in ("a", "b"))

    def group(*what):
        return case.tool(tools, GROUP_COMMAND, *what)

    def tasks():
        """How many active tasks each process has: ACTIVE-TASKS reads like 0:[0,1]; 1:[2]."""
        held = Counter()
        rows = group("--describe", "--group", app, "--members").splitlines()
        columns = next(filter(lambda row: row.startswith("GROUP"), rows), "").split()
        for row in rows:
            if row.startswith(app) and "ACTIVE:" in row:
                process = row.split()[columns.index("PROCESS")]
                active = row.split("ACTIVE:")[1].split("STANDBY:")[0].split("WARMUP:")[0]
                held[process] += sum(len(ids.split(",")) for ids in re.findall(r"\[([\d, ]+)\]", active))
        return sorted(held.values())

    a.wait_for("RUNNING")
    b.wait_for("RUNNING")
    until("the two share eight tasks", 60, lambda: tasks() == [4, 4], a)
    check(app in group("--list").splitlines(), "the group is not in the list")
    check("Stable" in group("--describe", "--group", app, "--state"), "the group is not stable")
    producer = case.produce(f"{app}.lines", [(n, "", line) for n, line in enumerate(lines)], rate=400)
    time.sleep(3)
    a.stop()
    until("the other has them all", 60, lambda: tasks() == [8], b)
    producer.ends(0)
    same("counts", case.values_by_key(f"{app}.counts", sum(map(len, wanted.values())), 90), wanted)
    b.stop()
