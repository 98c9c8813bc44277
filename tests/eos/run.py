"""Plays the system test and has Kafka's verifier judge it: `python -m eos.run [TRIAL ...]`, with `tests` on the path;
`make eos` calls it, for all trials.

Each run keeps the logs of its workers and of the verifier in `build/eos/NAME`. Exit code 1 where a run failed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from chaos import plan as plans
from chaos.play import ended, stage
from eos.case import Eos
from eos.jobs import STORE
from eos.plans import Trial, trials
from eos.verifier import verify

BUILD = Path("build/eos")
_TESTS = str(Path(__file__).parents[1])


def judge(trial: Trial, home: Path) -> dict[str, Any]:
    """Plays a trial in `home` and has it judged; gives its figures. Raises AssertionError where anything is wrong.

    A verdict that cannot be bad says nothing: at the end one output gets one record more, and the verifier has to
    find it.
    """
    begun = time.monotonic()
    path = os.pathsep.join(filter(None, (_TESTS, os.environ.get("PYTHONPATH"))))
    environ = {"PYTHONPATH": path, STORE: trial.store}
    with stage(trial.plan, home, Eos, ("-m", "eos.worker"), environ) as run:
        run.play()
        run.stop()
        eos = run.case
        verdict = verify(eos.config, home)
        assert verdict.passed, verdict.words[-3000:]
        committed, uncommitted = eos.written("read_committed"), eos.written("read_uncommitted")
        assert set(committed.values()) == {eos.acknowledged}, (eos.acknowledged, committed)
        aborted = sum(uncommitted.values()) - sum(committed.values())
        assert aborted > 0, "no fault fell into an open transaction: the run has shown nothing"
        eos.add_one()
        control = verify(eos.config, home)
        assert not control.passed, "a record too many was not found"
        assert "records for sum-" in control.words, control.words[-3000:]
    return {
        "trial": trial.name, "store": trial.store, "records": eos.acknowledged, "faults": plans.summary(trial.plan),
        "aborted": aborted, "ended": ended(home),
        "seconds": round(time.monotonic() - begun),
    }  # fmt: skip


def main() -> None:
    """Plays the trials that are named, or all. SIGTERM ends the run in order: its broker and its workers with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = False
    named = {trial.name: trial for trial in trials()}
    if unknown := set(sys.argv[1:]) - named.keys():
        sys.exit(f"there is no trial {', '.join(unknown)}; there are {', '.join(named)}")
    for trial in [named[name] for name in sys.argv[1:] or named]:
        print(f"{trial.name}: {trial.plan.events} records, {plans.summary(trial.plan)}", flush=True)
        home = (BUILD / trial.name).absolute()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        try:
            print(f"{trial.name}: passed: {json.dumps(judge(trial, home))}", flush=True)
        except Exception as e:  # noqa: BLE001 - the next one is played all the same, and the exit code says that one failed
            failed = True
            print(f"{trial.name}: FAILED: {type(e).__name__}: {e}; the logs are in {home}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
