"""How a simulation of clients goes, for people (rich tables) and for machines (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from producers.clients_simulation import ClientsSimulation, Compared

#: So many clients are shown; those that differ come first.
CLIENTS_SHOWN = 20


def live(simulation: ClientsSimulation) -> Table:
    """What is going on right now."""
    sent = [sender.sent for sender in simulation.senders]
    table = Table(title=f"{len(sent)} clients", show_header=False, title_justify="left")
    table.add_row("events sent", f"{sum(s.events for s in sent):,}")
    table.add_row("sent again on purpose", f"{sum(s.again for s in sent):,}")
    table.add_row("answered as duplicates", f"{sum(s.duplicates for s in sent):,}")
    table.add_row("requests tried again", f"{sum(s.retries for s in sent):,}")
    return table


def comparison(compared: Sequence[Compared]) -> Table:
    """What was sent, and how what weir has differs from it, per client."""
    shown = sorted(compared, key=lambda c: not c.differences)[:CLIENTS_SHOWN]
    verdict = "[green]equal[/]" if equal(compared) else "[red]different[/]"
    hidden = len(compared) - len(shown)
    table = Table(
        title=f"sent by {len(compared)} clients and there: {verdict}",
        title_justify="left",
        caption=f"clients not shown: {hidden}" if hidden else None,
        caption_justify="left",
        show_footer=True,
    )
    total = _total(compared)
    table.add_column("client", footer="all clients", no_wrap=True)
    for name, value in total.items():
        table.add_column(name.replace("_", " "), footer=f"{value:,}", justify="right")
    for one in shown:
        table.add_row(one.sent.client_id[:8], *(f"{value:,}" for value in _row(one).values()))
        for difference in one.differences:
            table.add_row(f"[red]{escape(difference)}[/]")
    return table


def as_json(compared: Sequence[Compared], seed: int) -> dict[str, Any]:
    """The same for machines: all clients, and every difference."""
    return {
        "equal": equal(compared),
        "seed": seed,
        **_total(compared),
        "clients": [{"client_id": one.sent.client_id, **_row(one), "differences": one.differences} for one in compared],
    }


def equal(compared: Sequence[Compared]) -> bool:
    """Whether all that was sent is there once, and nothing else; no key may be in doubt."""
    return all(not one.differences and not one.sent.in_doubt for one in compared)


def _row(one: Compared) -> dict[str, int]:
    sent = one.sent
    return {
        "events": sent.events,
        "sent_again": sent.again,
        "told_duplicate": sent.duplicates,
        "tried_again": sent.retries,
        "keys_compared": one.keys,
        "keys_in_doubt": len(sent.in_doubt),
        "differences": len(one.differences),
    }


def _total(compared: Sequence[Compared]) -> dict[str, int]:
    rows = [_row(one) for one in compared]
    return {name: sum(row[name] for row in rows) for name in rows[0]}
