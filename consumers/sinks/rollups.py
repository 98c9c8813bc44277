"""Rollups: adds a batch's rows to the stored aggregates of the rows before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from weir.consumers.sinks import sql as sink_sql
from weir.consumers.sinks.table import Conflict, Key, Rollup
from weir.infra import postgres
from weir.infra.errors import PostgresUnavailableError


def roll_up(cursor: psycopg.Cursor, rollup: Rollup, cells: Mapping[Key, Any]) -> None:
    """Reads the rows of these keys, merges the cells into them, and writes them; within the caller's transaction.

    Raises PostgresUnavailableError where Postgres refuses the outcome: no single row is to blame then, and what it
    takes may be different when it is tried again (a tenant was deleted meanwhile).
    """
    if not cells:
        return
    places = [list(rollup.columns).index(name) for name in rollup.key]
    columns = [list(column) for column in zip(*cells, strict=True)]
    try:
        found = cursor.execute(sink_sql.stored(rollup), columns, binary=True).fetchall()
        stored = {tuple(row[place] for place in places): row for row in found}
        with cursor.copy(sink_sql.copy(sink_sql.staging(rollup.name), rollup.columns)) as stream:
            stream.set_types(list(rollup.columns.values()))
            for key, cell in cells.items():
                stream.write_row(rollup.merged(key, cell, stored.get(key)))
        cursor.execute(sink_sql.merge(rollup.name, rollup.columns, rollup.key, Conflict.REPLACE))
    except psycopg.Error as e:
        if postgres.is_refusal(e):
            raise PostgresUnavailableError(
                f"Postgres rejected a row of {rollup.name}: {' '.join(str(e).split())}"
            ) from e
        raise
