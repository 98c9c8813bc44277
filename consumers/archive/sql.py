"""One SELECT over the archive, by DuckDB: it sees `events`, and nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from weir.consumers.archive.dataset import dataset, engine, translated
from weir.consumers.archive.manifest import ArchivedFile
from weir.schemas.errors import WeirError

#: DuckDB makes a datetime of this type only with a library of time zones: it is asked for one in UTC without a zone.
_MOMENT = "TIMESTAMP WITH TIME ZONE"
#: Rows that are handed on at a time.
_BATCH = 1_000


@dataclass(frozen=True)
class QueryRows:
    """The columns' names, and the rows as they come."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def answer(files: Sequence[ArchivedFile], query: str, parameters: Sequence[object] = ()) -> Iterator[QueryRows]:
    """Runs one SELECT; table `events` is the rows of these files.

    Raises WeirError for what is no single SELECT or cannot be run, ArchiveUnavailableError, and ArchiveDamagedError.
    """
    with engine() as connection, translated("the archive"):
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise WeirError("the archive accepts one SELECT statement, and no other")
        connection.register("events", dataset(files))
        source = f"FROM (\n{_bare(query)}\n)"
        found = connection.execute(f"SELECT * {source} LIMIT 0", list(parameters)).description or []
        types = [str(column[1]) for column in found]
        moments = [n for n, kind in enumerate(types) if _MOMENT in kind]
        if not moments:
            result = connection.execute(statements[0], list(parameters))
        else:
            plain = (
                f"#{n}::{kind.replace(_MOMENT, 'TIMESTAMP')}" if _MOMENT in kind else f"#{n}"
                for n, kind in enumerate(types, 1)
            )
            result = connection.execute(f"SELECT {', '.join(plain)} {source}", list(parameters))
        yield QueryRows([column[0] for column in found], _rows(result, moments))


def _bare(query: str) -> str:
    """Returns a statement without the semicolon at its end, and without the text after it."""
    text = query.encode()
    for at, kind in duckdb.tokenize(query):  # where it begins, in bytes
        if kind == duckdb.token_type.operator and text[at : at + 1] == b";":
            return text[:at].decode()
    return query


def _rows(result: duckdb.DuckDBPyConnection, moments: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    with translated("the archive"):
        while batch := result.fetchmany(_BATCH):
            if not moments:
                yield from batch
                continue
            for row in batch:
                yield tuple(_in_utc(value) if n in moments else value for n, value in enumerate(row))


def _in_utc(value: object) -> object:
    """A moment that has no time zone, or the moments inside a value, in UTC."""
    match value:
        case dt.datetime():
            return value.replace(tzinfo=dt.UTC)
        case list() | tuple():
            return [_in_utc(item) for item in value]
        case dict():
            return {_in_utc(key): _in_utc(item) for key, item in value.items()}
        case _:
            return value
