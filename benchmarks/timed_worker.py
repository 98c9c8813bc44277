"""A worker that says how long each slice of its source took: run as `weir.cli.main` is.

One line per slice goes to the file that `TIMED_SLICES` names: when it was done (epoch seconds), its events, the seconds
that `process` of the combining stage took (decoding, checking, keys, aggregating), and those since it was polled.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weir.cli import main
from weir.streams.engine.core.records import Record
from weir.streams.engine.dataplane.reader import Partition, Reader
from weir.streams.engine.windowed.combine import Combine

#: First record of a slice (topic, partition, offset) to when it was polled.
_polled: dict[tuple[str | None, int | None, int | None], float] = {}
_poll, _process = Reader._poll, Combine.process
_out = Path(os.environ["TIMED_SLICES"]).open("w", buffering=1)  # noqa: SIM115 - until the process ends, however


def _place(record: Any) -> tuple[str | None, int | None, int | None]:
    return record.topic(), record.partition(), record.offset()


def poll(self: Reader) -> dict[Partition, list[Record]]:
    """As the reader does it, and when."""
    found = _poll(self)
    now = time.perf_counter()
    for records in found.values():
        _polled[_place(records[0])] = now
    if len(_polled) > 100_000:  # slices of partials, and of tasks that were closed
        _polled.clear()
    return found


def process(self: Combine, records: Sequence[Record]) -> None:
    """As the stage does it, and for how long."""
    begun = time.perf_counter()
    _process(self, records)
    now = time.perf_counter()
    polled = _polled.pop(_place(records[0]), begun)
    _out.write(f"{time.time():.3f} {len(records)} {now - begun:.9f} {now - polled:.9f}\n")


if __name__ == "__main__":
    Reader._poll, Combine.process = poll, process  # type: ignore[method-assign]
    main.main()
