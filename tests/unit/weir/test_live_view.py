"""The demo's picture: it fits a small terminal, and shows what there is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from weir.demo.live_table import Snapshot, WindowTotal
from weir.demo.live_view import Moment, line, render
from weir.infra.runtime.status import ServiceStatus
from weir.schemas.links import Link
from weir.schemas.times import from_rfc3339
from weir.schemas.windows import Window

NOON = WindowTotal(Window("2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z"), 1234, 56)
LATER = WindowTotal(Window("2026-01-31T12:01:00Z", "2026-01-31T12:02:00Z"), 17, 3)
LATEST = WindowTotal(Window("2026-01-31T12:02:00Z", "2026-01-31T12:03:00Z"), 9, 2)
SERVICES = [ServiceStatus(name, "running", 1, 0.0) for name in ("kafka", "postgres", "feed", "worker-links", "api")]


def moment(snapshot: Snapshot) -> Moment:
    """23 s before the end of the latest window."""
    now = from_rfc3339("2026-01-31T12:02:37Z")
    return Moment(now, SERVICES, snapshot, 1260, 1234, 1, 19.6, ["logs: somewhere"])


def drawn(snapshot: Snapshot, width: int = 80) -> list[str]:
    """The picture's lines on a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(render(moment(snapshot)))
    return capture.get().splitlines()


BUSY = Snapshot(LATEST, [Link("36de4bf4-0293-4567-b009-75c4bc66a64d", "shop", 7)], [LATER], [NOON], 1260)


def test_the_current_window_is_shown_with_its_busiest_links() -> None:
    text = "\n".join(drawn(BUSY))
    assert "busiest since 12:02:00Z, 23 s left" in text
    assert "36de4bf4 → shop" in text


def test_closing_and_closed_windows_are_shown_with_their_totals() -> None:
    lines = drawn(BUSY)
    assert any("closed windows: 1, 1,234 calls" in line for line in lines)
    assert any("12:01:00Z closing" in line and "17" in line for line in lines)
    assert any("12:00:00Z" in line and "1,234" in line and "56" in line for line in lines)


def test_the_way_through_is_shown() -> None:
    assert any("sent 1,260 → counted 1,260 → came back 1,234 in 1 windows   20 calls/s" in line for line in drawn(BUSY))
    assert line(moment(BUSY)) == "sent 1,260, counted 1,260, came back 1,234 in 1 windows, 20 calls/s"


def test_nothing_yet_is_a_picture_too() -> None:
    assert any("waiting for calls" in line for line in drawn(Snapshot(None, [], [], [], 0)))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits_the_terminal_however_much_there_is(width: int) -> None:
    links = [Link("x" * 128, "[red]子" * 20, 10**9 + number) for number in range(50)]
    full = Snapshot(LATEST, links, [LATER] * 30, [NOON] * 30, 10**12)
    lines = drawn(full, width)
    assert len(lines) <= 24
    assert len(drawn(Snapshot(None, [], [], [], 0), width)) == len(lines)
