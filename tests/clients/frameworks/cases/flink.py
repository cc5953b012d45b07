"""Flink's own Kafka source and sink: a job is killed between checkpoints and goes on from the newest, the broker dies."""
import time

from harness import check, until

RECORDS = 8000


def run(case, naming):
    (module,) = case.modules
    checkpoints = case.work / "checkpoints"
    opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.util", "java.lang", "java.time")]
    job = case.program("job", module.java("krocket.Job", "in", "out", checkpoints, naming, options=opens))

    def completed():
        return len({str(path) for path in checkpoints.rglob("_metadata")})

    case.create("in", "out", partitions=3)
    job.start()
    producer = case.produce("in", [(n, "", n) for n in range(RECORDS)], rate=400)
    until("a checkpoint is complete", 60, completed, job)
    time.sleep(3)
    job.kill()
    job.start()
    job.wait_for("restored")
    time.sleep(5)
    case.crash_broker()
    producer.ends(0)
    time.sleep(1)
    job.kill()
    job.start()
    got = sorted(int(record["value"]) for record in case.read("out", RECORDS, 60))
    check(got == list(range(RECORDS)), f"{len(got)} records, wanted {RECORDS}; {RECORDS - len(set(got))} are missing")
    check(job.process.poll() is None, f"the job ended, see {job.log}")


def incrementing(case):
    run(case, "INCREMENTING")


def pooling(case):
    """Asks the broker for open transactions (ListTransactions) instead of probing ids."""
    run(case, "POOLING")
