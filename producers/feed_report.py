"""How a played feed goes, for people (rich tables) and for machines (JSON)."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from producers.feed_check import Comparison, FeedCheck
from producers.feed_server import FeedServer

#: So many pairs are shown; those that differ come first.
PAIRS_SHOWN = 20


def live(server: FeedServer, check: FeedCheck, address: str) -> Table:
    """What is going on right now."""
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
        ("difference", sum(abs(p.difference) for p in result.pairs)),
    ):
        table.add_column(name, footer=f"{total:,}", justify="right")
    for pair in shown:
        difference = f"[red]{pair.difference:+,}[/]" if pair.difference else "0"
        in_doubt = f"{pair.in_doubt:,}" if pair.in_doubt else ""
        table.add_row(pair.source, pair.destination, f"{pair.sent:,}", in_doubt, f"{pair.counted:,}", difference)
    return table


def as_json(result: Comparison, check: FeedCheck, whole: bool) -> dict[str, Any]:
    """The same for machines; `pairs` holds all of them."""
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
        "others": result.others,
        "unresolved": result.unresolved,
        "pairs": [{**pair._asdict(), "difference": pair.difference} for pair in result.pairs],
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
