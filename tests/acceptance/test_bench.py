"""`make bench` prints its figures."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_benchmark_prints_events_per_second_beside_the_bare_loop(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.links", "--events", "20000"],
        env=environ,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["events"] == 20_000
    assert figures["bare_loop_events_per_s"] > 0
    assert figures["events_per_s"] > 0
