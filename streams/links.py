"""The links job: how often each parent talked to each other parent, per minute.

`communications` are between children; `relations` say which parent a child had at that moment. Results go to
`link-counts`, one record per window and pair whenever its count changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from infra.config import Config
from schemas.links import Communication, LinkCount, Window, WindowClosed
from schemas.times import from_rfc3339, to_rfc3339
from schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINK_WINDOWS, LINKS_PARTIALS
from streams.engine.job import WindowedCount
from streams.engine.partials import Key
from streams.engine.records import Record
from streams.engine.windows import TumblingWindows
from streams.parents import Parents

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LinkCount).decode
TRUTH = ("false", "true")


@lru_cache(maxsize=1 << 16)
def quoted(text: str) -> str:
    """The text as JSON."""
    return msgspec.json.encode(text).decode()


_start = lru_cache(maxsize=4096)(from_rfc3339)


def job(config: Config) -> WindowedCount:
    """The links job with the windows that `config` says."""
    parents = Parents()
    settled, at = parents.settled, parents.at
    windows = TumblingWindows(config.links_window, config.links_grace, config.links_retention)
    decoder = COMMUNICATIONS.decoder()
    assert decoder is not None

    def keys(calls: Sequence[Communication], timestamps: Sequence[int]) -> list[Key]:
        try:  # nearly always every child has only ever had one parent
            sources = [settled[call.source] for call in calls]
            return list(zip(sources, [settled[call.destination] for call in calls], strict=True))
        except KeyError:
            return [(at(c.source, t), at(c.destination, t)) for c, t in zip(calls, timestamps, strict=True)]

    @lru_cache(maxsize=4096)
    def window(start: int) -> Window:
        return Window(to_rfc3339(start), to_rfc3339(start + windows.size))

    @lru_cache(maxsize=4096)
    def before(start: int) -> tuple[str, str]:
        """How a record's key and value begin: these two are written often, so by hand and not by an encoder."""
        bounds = window(start)
        return f'["{bounds.start}",', f'{{"window":{{"start":"{bounds.start}","end":"{bounds.end}"}},"source":'

    def cell(start: int, key: Key, count: int, final: bool) -> tuple[bytes, bytes]:
        key_begins, value_begins = before(start)
        source, destination = quoted(key[0]), quoted(key[1])
        value = f'{value_begins}{source},"destination":{destination},"count":{count},"final":{TRUTH[final]}}}'
        return f"{key_begins}{source},{destination}]".encode(), value.encode()

    def closed(start: int, partition: int, partitions: int, cells: int) -> tuple[bytes, bytes]:
        bounds = window(start)
        return _encode((bounds.start, partition)), _encode(WindowClosed(bounds, partition, partitions, cells))

    return WindowedCount(
        name="links",
        source=COMMUNICATIONS,
        partials=LINKS_PARTIALS,
        output=LINK_COUNTS,
        closings=LINK_WINDOWS,
        decoder=decoder,
        keys=keys,
        windows=windows,
        max_skew=config.max_skew,
        cell=cell,
        read_cell=_read_cell,
        closed=closed,
        view=parents,
        linger=config.links_linger,
    )


def _read_cell(record: Record) -> tuple[int, Key, int]:
    count = _decode(record.value() or b"")
    return _start(count.window.start), (count.source, count.destination), count.count
