"""The links job: how often each parent talked to each other parent, per minute.

`communications` are between children; `relations` say which parent a child had at that moment. Results go to
`link-counts`, one record per window and pair whenever its count changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from weir.infra.config import Config
from weir.schemas.links import Communication, LinkCount
from weir.schemas.times import from_rfc3339
from weir.schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINK_WINDOWS, LINKS_PARTIALS
from weir.streams.api import Key, Record, State, TumblingWindows, Windowed, window
from weir.streams.jobs.parents import Parents

_decode = msgspec.json.Decoder(LinkCount).decode
TRUTH = ("false", "true")


class Quoted(dict[str, str]):
    """Texts as JSON, each made once."""

    def __missing__(self, text: str) -> str:
        if len(self) >= 1 << 16:
            self.clear()
        found = self[text] = msgspec.json.encode(text).decode()
        return found


_quoted = Quoted()
_epoch = lru_cache(maxsize=4096)(from_rfc3339)


@lru_cache(maxsize=4096)
def _begin(start: int, end: int) -> tuple[str, str]:
    """How a record's key and value begin. The key is that of `weir.schemas.links.link_count_key`."""
    bounds = window(start, end)
    return f'["{bounds.start}",', f'{{"window":{{"start":"{bounds.start}","end":"{bounds.end}"}},"source":'


def write(start: int, end: int, counts: Sequence[tuple[Key, int]], final: bool) -> list[tuple[bytes, bytes]]:
    """`link-counts` records. These are written by the million, so by hand and not by an encoder."""
    key_begins, value_begins = _begin(start, end)
    value_ends = f',"final":{TRUTH[final]}}}'
    quoted = _quoted
    return [
        (
            f"{key_begins}{(s := quoted[source])},{(d := quoted[destination])}]".encode(),
            f'{value_begins}{s},"destination":{d},"count":{count}{value_ends}'.encode(),
        )
        for (source, destination), count in counts
    ]


def read(record: Record) -> State:
    """Returns the cell in a record that `write` made."""
    count = _decode(record.value() or b"")
    start, end = _epoch(count.window.start), _epoch(count.window.end)
    return State(start, end, (count.source, count.destination), count.count)


def job(config: Config) -> Windowed:
    """Counts calls per window and pair of parents."""
    parents = Parents()
    settled, at = parents.settled, parents.at

    def keys(calls: Sequence[Communication], timestamps: Sequence[int]) -> list[Key]:
        try:  # nearly always every child has only ever had one parent
            sources = [settled[call.source] for call in calls]
            return list(zip(sources, [settled[call.destination] for call in calls], strict=True))
        except KeyError:
            return [(at(c.source, t), at(c.destination, t)) for c, t in zip(calls, timestamps, strict=True)]

    return Windowed(
        name="links",
        source=COMMUNICATIONS,
        keys=keys,
        windows=TumblingWindows(config.links.window, config.links.grace, config.links.retention),
        partials=LINKS_PARTIALS,
        output=LINK_COUNTS,
        closings=LINK_WINDOWS,
        write=write,
        read=read,
        view=parents,
        max_skew=config.max_skew,
        linger=config.links.linger,
    )
