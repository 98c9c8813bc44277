"""Dead letters on a terminal: a table, plain lines, or one in full."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from rich.cells import cell_len, set_cell_size

from weir.infra.dead_letters.letters import Letter
from weir.infra.kafka.record_view import printable
from weir.schemas.dead_letters import Replay
from weir.schemas.times import readable

#: Bytes of a message that `show` prints; the rest is for --raw.
SHOWN = 4096
GAP = 2
_COLUMNS = ("position", "time", "reason", "from", "detail", "replayed")
#: Columns that are cut where the terminal is narrow, and what is left of each at least.
_CUT = {4: 12, 3: 12, 1: 16}


def as_table(letters: Iterable[Letter], replays: Mapping[str, Replay], width: int) -> Iterator[str]:
    """Formats dead letters as a table with a heading, each on one line cut to the terminal's width."""
    rows = [_COLUMNS, *((*_cells(letter)[:5], "yes" if letter.position in replays else "") for letter in letters)]
    widths = [max(cell_len(row[number]) for row in rows) for number in range(len(_COLUMNS))]
    spare = width - sum(widths) - GAP * (len(widths) - 1)
    for column, least in _CUT.items():
        cut = min(max(0, -spare), max(0, widths[column] - least))
        widths[column] -= cut
        spare += cut
    for row in rows:
        cells = [_fitted(cell, size) for cell, size in zip(row, widths, strict=True)]
        yield (" " * GAP).join(cells).rstrip()


def _fitted(cell: str, width: int) -> str:
    return set_cell_size(cell, width) if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"


def as_lines(letters: Iterable[Letter], replays: Mapping[str, Replay]) -> None:
    """Formats each dead letter as one line with tabs between its fields, for a pipe."""
    for letter in letters:
        replay = replays.get(letter.position)
        print("\t".join([*_cells(letter), "" if replay is None else replay.at]))


def in_full(letter: Letter, replay: Replay | None) -> None:
    """Formats one dead letter with all its fields and its message: JSON laid out, or text with escapes."""
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


def _cells(letter: Letter) -> tuple[str, str, str, str, str, str]:
    origin = letter.origin
    time = None if origin is None else origin.timestamp
    return (
        letter.position,
        "" if time is None else readable(time),
        letter.reason,
        _place(letter),
        "" if origin is None else printable(origin.detail.encode()),
        str(len(letter.record.value or b"")),
    )


def _place(letter: Letter) -> str:
    origin = letter.origin
    if origin is None:
        return ""
    place = f"{origin.source} " + ("" if origin.partition is None else f"{origin.partition}@") + str(origin.offset)
    return printable(place.encode()) + ("" if origin.element is None else f"[{origin.element}]")
