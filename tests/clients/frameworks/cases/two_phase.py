"""Two-phase commit as Flink's sink does it, with the plain client: each checkpoint's records once, whoever dies when."""
import random

from harness import check

CHECKPOINTS, EACH, TOPIC = 15, 400, "checkpoints"
# The process ends after this step of that checkpoint. A prepared one has to be committed by the successor, a flushed one
# aborted, and a committed one committed again without effect.
DEATHS = [("flushed", 2), ("prepared", 4), ("committed", 6), ("prepared", 8), ("flushed", 10), ("prepared", 12)]


def run(case):
    (module,) = case.modules
    case.create(TOPIC, partitions=4)
    crash = random.Random(3)
    command = module.java("krocket.TwoPhase", TOPIC, case.work / "state", CHECKPOINTS, EACH)
    for number, (step, checkpoint) in enumerate(DEATHS):
        case.program(f"sink-{number}", [*command, step, str(checkpoint)]).start().ends(137)
        visible(case, checkpoint + (step == "committed"))
        if crash.random() < 0.5:
            case.crash_broker()
    last = case.program("sink", command).start()
    last.ends(0)
    visible(case, CHECKPOINTS)


def visible(case, checkpoints):
    """All of these checkpoints, each record once, and nothing else."""
    got = sorted(record["value"] for record in case.read(TOPIC, checkpoints * EACH))
    wanted = sorted(f"{c}.{n}" for c in range(checkpoints) for n in range(EACH))
    check(got == wanted, f"{len(got)} records are visible after {checkpoints} checkpoints of {EACH}; "
                         f"missing {sorted(set(wanted) - set(got))[:3]}, too many {sorted(set(got) - set(wanted))[:3]}")
