"""The demo on a terminal: services, the current window's busiest links, closed windows, and the way through.

Pure: what is known at one moment in, what rich draws out.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from weir.demo.live_table import Snapshot, WindowTotal
from weir.infra.runtime.status import ServiceStatus
from weir.schemas.times import from_rfc3339

#: Rows of both tables.
ROWS = 10
_BAR = 14
_DOTS = {"running": "green", "failed": "red", "stopped": "red"}


@dataclass(frozen=True)
class Moment:
    """One frame of the demo's display. `now` is in epoch milliseconds; `sent`, `came_back` count calls; `notes` stand
    at the end.
    """

    now: int
    services: Sequence[ServiceStatus]
    snapshot: Snapshot
    sent: int
    came_back: int
    windows_back: int
    per_second: float
    notes: Sequence[str] = ()


def render(moment: Moment) -> RenderableType:
    """The whole picture; it fits 80 columns and 24 lines."""
    tables = Table.grid(expand=True)
    tables.add_column(ratio=11)
    tables.add_column(ratio=9)
    tables.add_row(_current(moment), _closed(moment.snapshot))
    notes = [Text(note, style="dim", no_wrap=True, overflow="ellipsis") for note in moment.notes]
    return Group(_services(moment.services), tables, _totals(moment), *notes)


def line(moment: Moment) -> str:
    """Returns the frame as one line, for an output that is not a terminal."""
    return (
        f"sent {moment.sent:,}, counted {moment.snapshot.calls:,}, came back {moment.came_back:,} "
        f"in {moment.windows_back} windows, {moment.per_second:.0f} calls/s"
    )


def short(name: str) -> str:
    """A UUID by its beginning, any other id as it is.

    >>> short("36de4bf4-0293-4567-b009-75c4bc66a64d"), short("shop")
    ('36de4bf4', 'shop')
    """
    try:
        return name[:8] if str(uuid.UUID(name)) == name else name
    except ValueError:
        return name


def _services(services: Sequence[ServiceStatus]) -> Text:
    text = Text(" weir", style="bold", no_wrap=True)
    for service in services:
        text.append("  ● ", style=_DOTS.get(service.state, "yellow"))
        text.append(service.name if service.state == "running" else f"{service.name} {service.state}", style="none")
    return text


def _current(moment: Moment) -> Panel:
    table = Table(box=None, expand=True, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=_BAR, no_wrap=True)
    most = max((link.count for link in moment.snapshot.busiest), default=1)
    for link in moment.snapshot.busiest[:ROWS]:
        pair = Text.assemble(short(link.source), (" → ", "dim"), short(link.destination))
        table.add_row(pair, f"{link.count:,}", Text("█" * max(1, _BAR * link.count // most), style="cyan"))
    for _ in range(ROWS - len(moment.snapshot.busiest[:ROWS])):
        table.add_row("", "", "")
    return Panel(table, title=_heading(moment), title_align="left", box=box.ROUNDED, border_style="cyan")


def _heading(moment: Moment) -> Text:
    current = moment.snapshot.current
    if current is None:
        return Text("waiting for calls", style="cyan")
    left = (from_rfc3339(current.window.end) - moment.now) // 1000
    state = f"{left} s left" if left > 0 else "closing"
    return Text.assemble((f"busiest since {_clock(current)}", "bold cyan"), (f", {state}", "cyan"))


def _closed(snapshot: Snapshot) -> Panel:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("from", no_wrap=True)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("links", justify="right", no_wrap=True)
    rows = [(window, "dim") for window in snapshot.closing] + [(window, "") for window in snapshot.closed]
    for window, style in rows[: ROWS - 1]:
        state = " closing" if style else ""
        table.add_row(_clock(window) + state, f"{window.calls:,}", f"{window.links:,}", style=style)
    for _ in range(ROWS - 1 - len(rows)):
        table.add_row("", "", "")
    calls = sum(window.calls for window in snapshot.closed)
    title = Text(f"closed windows: {len(snapshot.closed)}, {calls:,} calls", style="bold green")
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, border_style="green")


def _clock(window: WindowTotal) -> str:
    return window.window.start[11:]


def _totals(moment: Moment) -> Text:
    return Text.assemble(
        (" sent ", "dim"), f"{moment.sent:,}",
        (" → counted ", "dim"), f"{moment.snapshot.calls:,}",
        (" → came back ", "dim"), f"{moment.came_back:,}",
        (f" in {moment.windows_back} windows", "dim"),
        ("   ", ""), (f"{moment.per_second:,.0f} calls/s", "bold"),
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip
