"""How a played feed goes, for people (rich tables) and for machines (JSON)."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from weir.producers.simulators.feed.check import Comparison, FeedCheck
from weir.producers.simulators.feed.server import FeedServer

#: So many pairs are shown; those that differ come first.
PAIRS_SHOWN = 20


def live(server: FeedServer, check: FeedCheck, address: str) -> Table:
    """Returns a table of the progress of a running simulation."""
    table = Table(title=f"feed at {address}", show_header=False, title_justify="left")
    table.add_row("client", "connected" if server.connected else "[yellow]waiting for one[/]")
    table.add_row("feed time", f"{server.at:.1f} s")
    table.add_row("messages sent", f"{check.messages:,}")
    table.add_row("communications sent", f"{check.communications:,}")
    table.add_row("relations sent", f"{check.relations:,}")
    table.add_row("windows that came back", f"{check.windows:,}")
    table.add_row("counted in them", f"{check.counted:,}")
    return table


def comparison(result: Comparison, whole: bool) -> Table:
    """Sent beside counted, per pair of parents; `whole` says whether the feed was played to its end."""
    shown = sorted(result.pairs, key=lambda pair: pair.difference == 0)[:PAIRS_SHOWN]
    verdict = "[green]equal[/]" if result.equal else "[red]different[/]"
    if result.is_early:
        verdict = "[yellow]not all is back yet, and nothing is wrong so far[/]"
    table = Table(
        title=f"sent and counted: {verdict}" + ("" if whole else " (stopped before the end)"),
        title_justify="left",
        caption=_caption(result, len(shown)),
        caption_justify="left",
        show_footer=True,
    )
    table.add_column("source parent", footer="all pairs")
    table.add_column("destination parent")
    for name, total in (
        ("sent", sum(p.sent for p in result.pairs)),
        ("in doubt", sum(p.in_doubt for p in result.pairs)),
        ("counted", sum(p.counted for p in result.pairs)),
        ("not back yet", sum(result.not_back.values())),
        ("difference", sum(abs(p.difference) for p in result.pairs)),
    ):
        table.add_column(name, footer=f"{total:,}", justify="right")
    for pair in shown:
        difference = f"[red]{pair.difference:+,}[/]" if pair.difference else "0"
        in_doubt = f"{pair.in_doubt:,}" if pair.in_doubt else ""
        late = result.not_back.get((pair.source, pair.destination), 0)
        not_back = f"{late:,}" if late else ""
        table.add_row(
            pair.source, pair.destination, f"{pair.sent:,}", in_doubt, f"{pair.counted:,}", not_back, difference
        )
    return table


def as_json(result: Comparison, check: FeedCheck, whole: bool) -> dict[str, Any]:
    """Returns the comparison as JSON; `pairs` holds all pairs."""
    return {
        "equal": result.equal,
        "whole": whole,
        "messages": check.messages,
        "communications": check.communications,
        "relations": check.relations,
        "windows": result.windows,
        "sent": sum(p.sent for p in result.pairs),
        "in_doubt": sum(p.in_doubt for p in result.pairs),
        "counted": sum(p.counted for p in result.pairs),
        "not_back": sum(result.not_back.values()),
        "others": result.others,
        "unresolved": result.unresolved,
        "pairs": [
            {
                **pair._asdict(),
                "not_back": result.not_back.get((pair.source, pair.destination), 0),
                "difference": pair.difference,
            }
            for pair in result.pairs
        ],
    }


def _caption(result: Comparison, shown: int) -> str:
    lines = [f"windows that came back: {result.windows}"]
    if len(result.pairs) > shown:
        lines.append(f"pairs not shown: {len(result.pairs) - shown}")
    if result.others:
        lines.append(f"counted between parents that this feed never named: {result.others:,}")
    if result.unresolved:
        lines.append(f"sent with a child that no relation had named: {result.unresolved:,}")
    return "\n".join(lines)
