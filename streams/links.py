"""The links job: how often each parent talked to each other parent, per minute.

`communications` are between children; `relations` say which parent a child had at that moment. Results go to
`link-counts`, one record per window and pair whenever its count changes.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from infra.config import Config
from schemas.links import Communication, LinkCount, Window, WindowClosed, link_count_key
from schemas.times import from_rfc3339, to_rfc3339
from schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINK_WINDOWS, LINKS_PARTIALS
from streams.engine.job import WindowedCount
from streams.engine.partials import Key
from streams.engine.records import Record
from streams.engine.windows import TumblingWindows
from streams.parents import Parents

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LinkCount).decode
_start = lru_cache(maxsize=4096)(from_rfc3339)


def job(config: Config) -> WindowedCount:
    """The links job with the windows that `config` says."""
    parents = Parents()
    settled, at = parents.settled, parents.at
    windows = TumblingWindows(config.links_window, config.links_grace, config.links_retention)
    decoder = COMMUNICATIONS.decoder()
    assert decoder is not None

    def key(call: Communication, timestamp: int) -> Key:
        try:
            return settled[call.source], settled[call.destination]
        except KeyError:
            return at(call.source, timestamp), at(call.destination, timestamp)

    @lru_cache(maxsize=4096)
    def window(start: int) -> Window:
        return Window(to_rfc3339(start), to_rfc3339(start + windows.size))

    def cell(start: int, key: Key, count: int, final: bool) -> tuple[bytes, bytes]:
        bounds = window(start)
        source, destination = key
        return link_count_key(bounds.start, *key), _encode(LinkCount(bounds, source, destination, count, final))

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
        key=key,
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
