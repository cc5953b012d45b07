"""Spring Kafka: what a listener fails to process comes back through krocket's retry topic, or ends among the dead."""
from collections import Counter

from harness import check, until

# brokers.CONFIG: two retries, 200 ms after each failure.
RETRIES = 2


def run(case):
    (module,) = case.modules
    values = [f"{'poison' if n % 20 == 0 else 'flaky' if n % 5 == 0 else 'ok'}-{n}" for n in range(200)]
    wanted = Counter()
    for value in values:
        kind = value.split("-")[0]
        wanted[f"{'done' if kind == 'ok' else 'fails'} {value} 0 orders"] += 1
        if kind == "flaky":
            wanted[f"done {value} 1 retry.shop"] += 1
        if kind == "poison":
            wanted.update(f"fails {value} {n + 1} retry.shop" for n in range(RETRIES))
    poison = sorted(v for v in values if v.startswith("poison"))

    case.create("orders", partitions=3)
    listener = case.program("listener", module.java("krocket.Listener")).start()
    listener.wait_for("RUNNING")
    case.produce("orders", [(n, "", value) for n, value in enumerate(values)]).ends(0)

    def seen():
        lines = listener.log.read_text(errors="replace").splitlines()
        return Counter(line for line in lines if line.startswith(("done ", "fails ")))

    until("everything is done or dead", 40, lambda: seen().total() >= wanted.total(), listener)
    dead = case.read("dlq.shop", len(poison))
    listener.stop()
    check(seen() == wanted, f"too often {(seen() - wanted).most_common(3)}, too rarely {(wanted - seen()).most_common(3)}")
    check(sorted(r["value"] for r in dead) == poison, f"dead: {[r['value'] for r in dead]}")
    for record in dead:
        headers = record["headers"]
        check(headers.get("REAL_TOPIC") == "orders" and headers.get("ERROR") == f"no {record['value']}",
              f"headers of a dead letter: {headers}")
