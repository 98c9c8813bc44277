"""Large libraries are imported where they are needed only: they cost a process's start time and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

AGGREGATES = """
import weir.streams.engine.aggregates.aggregates as a
a.Count().fold(None, [1]); a.Sum("x").fold(None, [1.5]); a.Quantiles("x"); a.Distinct("x")
"""


@pytest.mark.parametrize(
    ("library", "code"),
    [
        pytest.param("numpy", AGGREGATES, id="numpy by a job that only counts"),
        pytest.param(
            "rocksdict",
            "import weir.streams.jobs.registry, weir.streams.engine.worker.app",
            id="rocksdict by a job in memory",
        ),
    ],
)
def test_a_library_is_not_imported(library: str, code: str) -> None:
    script = f"{code}\nimport sys; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
