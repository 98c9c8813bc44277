"""Description of a job's table and its keys: a worker serves that of its own table, the HTTP API those of all."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class TableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The table of `job`. `key` are the names of the parts of a key, None where the job does not say; `windows`
    whether there is a cell per window. `address` is a URI template (RFC 6570) of `GET /tables`.
    """

    table: str
    job: str
    description: str
    key: Sequence[str] | None
    windows: bool
    address: str


class TableLag(msgspec.Struct, frozen=True):
    """How many records of the job's source, and partial results, are not yet in the table; None: not known."""

    records: int | None


class TableState(TableInfo, frozen=True, kw_only=True):
    """A table as it is now. `state`: `running`; `waiting`, where no worker of the job answers; `stopped`, where there
    is none. `workers` is how many there are.
    """

    state: str
    workers: int
    lag: TableLag


class TableList(msgspec.Struct, frozen=True):
    """Answer of `GET /tables`."""

    tables: Sequence[TableState]
