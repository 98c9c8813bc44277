"""How a simulation of clients goes, for people (rich tables) and for machines (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from weir.producers.simulators.clients.simulation import ClientsSimulation, Compared

#: So many clients are shown, those that differ first, and so many differences.
SHOWN = 20
#: What stands above the figures of a client.
HEADERS = {
    "events": "events",
    "sent_again": "sent again",
    "told_duplicate": "told duplicate",
    "tried_again": "tried again",
    "keys_compared": "keys",
    "keys_in_doubt": "in doubt",
    "differences": "differ",
}


def live(simulation: ClientsSimulation) -> Table:
    """Returns a table of the progress of a running simulation."""
    sent = [sender.sent for sender in simulation.senders]
    table = Table(title=f"{len(sent)} clients", show_header=False, title_justify="left")
    table.add_row("events sent", f"{sum(s.events for s in sent):,}")
    table.add_row("sent again on purpose", f"{sum(s.again for s in sent):,}")
    table.add_row("answered as duplicates", f"{sum(s.duplicates for s in sent):,}")
    table.add_row("requests tried again", f"{sum(s.retries for s in sent):,}")
    return table


def comparison(compared: Sequence[Compared]) -> Table:
    """Returns a table that compares, per client, the events sent with the data that weir holds."""
    shown = sorted(compared, key=lambda c: not c.differences)[:SHOWN]
    verdict = "[green]equal[/]" if equal(compared) else "[red]different[/]"
    hidden = len(compared) - len(shown)
    table = Table(
        title=f"sent by {len(compared)} clients and there: {verdict}",
        title_justify="left",
        caption=f"clients not shown: {hidden}" if hidden else None,
        caption_justify="left",
        show_footer=True,
    )
    table.add_column("client", footer="all clients")
    rows = [_row(one) for one in shown]
    for name, value in _total(compared).items():
        table.add_column(HEADERS[name], footer=f"{value:,}", justify="right")
    for one, row in zip(shown, rows, strict=True):
        table.add_row(one.sent.client_id[:8], *(f"{value:,}" for value in row.values()))
    return table


def differences(compared: Sequence[Compared]) -> list[str]:
    """The first differences, a line each."""
    found = [f"{one.sent.client_id}: {difference}" for one in compared for difference in one.differences]
    return found[:SHOWN] + ([f"… and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else [])


def as_json(compared: Sequence[Compared], seed: int) -> dict[str, Any]:
    """Returns the comparison as JSON: all clients, and every difference."""
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
