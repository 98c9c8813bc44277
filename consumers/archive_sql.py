"""One SELECT over the archive, by DuckDB: it sees `events`, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from consumers.archive_dataset import dataset, engine, translated
from consumers.archive_manifest import ArchivedFile
from schemas.errors import WeirError

#: Rows that are handed on at a time.
_BATCH = 1_000


@dataclass(frozen=True)
class Answer:
    """The columns' names, and the rows as they come."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def answer(files: Sequence[ArchivedFile], query: str, parameters: Sequence[object] = ()) -> Iterator[Answer]:
    """Runs one SELECT; table `events` is the rows of these files.

    Raises WeirError for what is no single SELECT or cannot be run, ArchiveUnavailableError, and ArchiveDamagedError.
    """
    with engine() as connection, translated("the archive"):
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise WeirError("the archive is read with one SELECT, and nothing else")
        connection.register("events", dataset(files))
        result = connection.execute(statements[0], list(parameters))
        yield Answer([column[0] for column in result.description or []], _rows(result))


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    with translated("the archive"):
        while batch := result.fetchmany(_BATCH):
            yield from batch
