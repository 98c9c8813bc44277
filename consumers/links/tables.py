"""The links job's two topics as tables: the counts, and which partition has closed which window.

The tables themselves are made by `weir/infra/migrations`: a column that is added here needs a migration there.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

from weir.consumers.sinks.table import Row, Table
from weir.infra.config import Config
from weir.schemas.links import LinkCount
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS
from weir.schemas.windows import Window, WindowClosed, window_bounds

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def moment(epoch_ms: int) -> dt.datetime:
    """Epoch milliseconds as Postgres takes them: an aware datetime in UTC. Raises OverflowError past the year 9999."""
    return _EPOCH + dt.timedelta(milliseconds=epoch_ms)


@lru_cache(maxsize=4096)
def _bounds(window: Window) -> tuple[dt.datetime, dt.datetime]:
    start, end = window_bounds(window)
    return moment(start), moment(end)


def _count_row(record: LinkCount, partition: int) -> Row:
    return *_bounds(record.window), record.source, record.destination, record.count, record.final, partition


def _window_row(record: WindowClosed, _: int) -> Row:
    return *_bounds(record.window), record.partition, record.partitions, record.cells


LINK_COUNTS_TABLE = Table(
    topic=LINK_COUNTS,
    name="link_counts",
    columns={
        "window_start": "timestamptz",
        "window_end": "timestamptz",
        "source": "text",
        "destination": "text",
        "count": "int8",
        "final": "bool",
        "partition": "int4",
    },
    key=("window_start", "source", "destination"),
    row=_count_row,
)

LINK_WINDOWS_TABLE = Table(
    topic=LINK_WINDOWS,
    name="link_windows",
    columns={
        "window_start": "timestamptz",
        "window_end": "timestamptz",
        "partition": "int4",
        "partitions": "int4",
        "cells": "int8",
    },
    key=("window_start", "partition"),
    row=_window_row,
)

#: The counts first: by the time a window's closing is stored, most of what it announces is, too.
LINK_TABLES = (LINK_COUNTS_TABLE, LINK_WINDOWS_TABLE)


LINK_STORE = "link-store"


def link_store(config: Config) -> tuple[Table, ...]:
    """Writes link counts to Postgres."""
    return LINK_TABLES
