"""The table of `weir status`: one line for each, at 80 columns and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from weir.cli.status import drawing, show
from weir.services.overview import Overview, OverviewEntry

ENTRIES = {
    "kafka": OverviewEntry("running", "kafka://127.0.0.1:9092", 7, {"embedded": True}),
    "postgres": OverviewEntry("running", "postgresql://weir:secret@127.0.0.1:5433/weir?x=y", 6, {"embedded": True}),
    "worker-monitoring-ids": OverviewEntry("running", "http://127.0.0.1:40001", 8, {"partitions": "a[0] a[1]"}),
    "monitoring": OverviewEntry(
        "running", "http://127.0.0.1:8090", 9, {"accepted": 4, "refused": 0, "unreadable": 0, "behind_records": 12}
    ),
    "api": OverviewEntry("waiting", None, 10, {"error": "no Postgres answers at 127.0.0.1:5433", "retry_in_s": 1.5}),
    "feed": OverviewEntry("stopped"),
}


def drawn(width: int) -> list[str]:
    """The lines of the table, without their ends."""
    console = Console(file=io.StringIO(), width=width)
    console.print(drawing(ENTRIES, "weir"))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_each_has_a_line_that_fits_80_columns_and_tells_what_matters() -> None:
    _, _, *lines, reason = drawn(80)
    assert [line.split()[0] for line in lines] == list(ENTRIES)
    assert lines[0].split() == ["kafka", "●", "running", "kafka://127.0.0.1:9092", "embedded"]
    assert lines[1].split() == ["postgres", "●", "running", "postgresql://127.0.0.1:5433", "embedded"]
    assert lines[2].endswith("2 partitions")
    assert lines[3].endswith("12 behind")
    assert lines[4].split() == ["api", "●", "waiting"]
    assert reason == "api: no Postgres answers at 127.0.0.1:5433"


def test_a_pipe_gets_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    show(Overview("/home", "127.0.0.1:9092", "postgresql://", ENTRIES))
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["kafka", "running", "kafka://127.0.0.1:9092", "7", "embedded"]
    assert lines[4] == ["api", "waiting", "", "10", "no Postgres answers at 127.0.0.1:5433"]
    assert lines[5] == ["feed", "stopped", "", "", ""]
