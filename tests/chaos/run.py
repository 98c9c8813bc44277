"""The long fault runs: `python -m chaos.run SEEDS [CASE]`, with `tests` on the path; `make chaos` calls it.

SEEDS is one range or more, `1-20` or `3,7,11-14`; CASE is what is played against, `links` or `monitoring`. Each seed
that has ended adds one line of JSON to `build/chaos/runs.jsonl`; one that has passed there is not run again, so that
what was interrupted goes on where it was. A run that failed keeps its logs in `build/chaos/CASE-N`, with where it was
and where its workers were in `failure.txt`.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path

from chaos import plan as plans
from chaos.cases import CASES
from chaos.play import ended, stage

BUILD = Path("build/chaos")
RUNS = BUILD / "runs.jsonl"
EVENTS = {"links": 300_000, "monitoring": 100_000}


def long(seed: int, case: str = "links") -> plans.Plan:
    """The plan of one long run."""
    ending = plans.LONG_ENDINGS[seed % len(plans.LONG_ENDINGS)]
    return plans.make(seed, plans.LONG, EVENTS[case], broker_pause=30.0, waits=(0.5, 3.5), ending=ending)


def seeds(text: str) -> list[int]:
    """The seeds that a text such as `1-3,7` names."""
    ranges = [part.partition("-")[::2] for part in text.split(",")]
    return [seed for first, last in ranges for seed in range(int(first), int(last or first) + 1)]


def passed(case: str) -> set[int]:
    """The seeds that need not be run again."""
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    runs = [run for run in map(json.loads, lines) if run.get("case", "links") == case]
    return {run["seed"] for run in runs if run["result"] == "passed"}


def one(seed: int, case: str) -> bool:
    """Runs a seed and writes its line; whether it passed."""
    plan = long(seed, case)
    about = f"{len(plan.faults)} faults, {plan.workers} workers of each job, {plan.latency} s latency"
    print(f"{case}, seed {seed}: {about}", flush=True)
    home = BUILD / f"{case}-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    begun, result = time.monotonic(), "passed"
    try:
        with stage(plan, home.absolute(), CASES[case]) as run:
            run.play()
    except Exception as e:  # noqa: BLE001 - the next seed is run all the same, and the exit code says that one failed
        result = f"failed: {type(e).__name__}: {str(e)[:2000]}"
    line = {
        "case": case, "seed": seed, "faults": len(plan.faults), "kinds": plans.summary(plan), "workers": plan.workers,
        "latency": plan.latency, "events": plan.events, "ended": ended(home),
        "seconds": round(time.monotonic() - begun), "result": result,
    }  # fmt: skip
    if result == "passed":
        shutil.rmtree(home)
    with RUNS.open("a") as runs:
        runs.write(json.dumps(line) + "\n")
    print(f"{case}, seed {seed}: {result}, {line['seconds']} s", flush=True)
    return result == "passed"


def main() -> None:
    """Exit code 1 where a seed failed. SIGTERM ends the run in order: its broker and its workers with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    BUILD.mkdir(parents=True, exist_ok=True)
    case = sys.argv[2] if len(sys.argv) > 2 else "links"
    if case not in EVENTS:
        sys.exit(f"there is no case {case!r}; there are {', '.join(EVENTS)}")
    done = passed(case)
    outcomes = [one(seed, case) for seed in seeds(sys.argv[1]) if seed not in done]
    sys.exit(not all(outcomes))


if __name__ == "__main__":
    main()
