"""Dead letters on a terminal: a table, plain lines, or one in full."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from infra.dead_letters import Letter
from infra.record_view import printable
from schemas.dead_letters import Replay
from schemas.times import readable

#: Bytes of a message that `show` prints; the rest is for --raw.
SHOWN = 4096


def as_table(letters: Iterable[Letter], replays: Mapping[str, Replay]) -> None:
    """One row each, cut to the terminal's width."""
    table = Table(box=None, pad_edge=False)
    for name in ("position", "time", "reason", "from", "detail"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "detail" else None)
    table.add_column("bytes", justify="right")
    table.add_column("replayed", no_wrap=True)
    for letter in letters:
        replay = replays.get(letter.position)
        table.add_row(*_cells(letter), "" if replay is None else replay.at, style="dim" if replay else None)
    Console(highlight=False, markup=False).print(table)


def as_lines(letters: Iterable[Letter], replays: Mapping[str, Replay]) -> None:
    """One line each, fields separated by tabs, for a pipe."""
    for letter in letters:
        replay = replays.get(letter.position)
        print("\t".join([*_cells(letter), "" if replay is None else replay.at]))


def in_full(letter: Letter, replay: Replay | None) -> None:
    """Everything about one letter, and its message: JSON laid out, or text with escapes."""
    value = letter.record.value or b""
    facts = letter.to_dict(replay) | {"bytes": len(value)}
    for name in ("key", "value", "replayed"):
        del facts[name]
    if letter.record.key is not None:
        facts["key"] = printable(letter.record.key)
    if replay is not None:
        facts["replayed"] = f"to {replay.topic} at {replay.at}"
    width = max(len(name) for name in facts)
    for name, fact in facts.items():
        if fact is not None:
            print(f"{name:{width}}  {printable(str(fact).encode())}")
    print()
    print(_laid_out(value))


def _laid_out(value: bytes) -> str:
    try:
        lines = json.dumps(json.loads(value), indent=2, ensure_ascii=False).splitlines()
        return "\n".join(printable(line.encode(errors="surrogatepass")) for line in lines)
    except (ValueError, RecursionError):
        more = f"… and {len(value) - SHOWN:,} bytes more (--raw has them all)" if len(value) > SHOWN else ""
        return printable(value[:SHOWN]) + more


def _cells(letter: Letter) -> list[str]:
    origin = letter.origin
    time = None if origin is None else origin.timestamp
    return [
        letter.position,
        "" if time is None else readable(time),
        letter.reason,
        _place(letter),
        "" if origin is None else printable(origin.detail.encode()),
        str(len(letter.record.value or b"")),
    ]


def _place(letter: Letter) -> str:
    origin = letter.origin
    if origin is None:
        return ""
    place = f"{origin.source} " + ("" if origin.partition is None else f"{origin.partition}@") + str(origin.offset)
    return printable(place.encode()) + ("" if origin.element is None else f"[{origin.element}]")
