"""The requests of `GET /tables`, and the cells of an answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from weir.infra.http.parameters import BadRequestError
from weir.schemas.times import from_rfc3339, to_rfc3339
from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.windowed.job import Windowed
from weir.streams.engine.windowed.merge_base import WindowCell


class TableQuery(NamedTuple):
    """Which cells of table `table`: all of the key, or those of the window that starts at `window` (epoch ms)."""

    table: str
    key: Key
    window: int | None = None


def parse(path: str, parameters: Iterable[tuple[str, str]]) -> TableQuery:
    """Returns the query in a request's path, as it was sent (nothing in it decoded), and its parameters.

    >>> parse("/tables/link-counts/a%2Fb/c", [("window", "1970-01-01T00:01:00Z")])
    TableQuery(table='link-counts', key=('a/b', 'c'), window=60000)

    Raises BadRequestError.
    """
    try:
        _, _, table, *key = [unquote(segment, errors="strict") for segment in path.split("/")]
    except UnicodeDecodeError as e:
        raise BadRequestError("key", "is not percent-encoded UTF-8") from e
    except ValueError as e:
        raise BadRequestError("table", "is missing: the path is /tables/TABLE/PART/PART") from e
    if not key:
        raise BadRequestError("key", "is missing: write its parts as /tables/TABLE/PART/PART")
    params: dict[str, str] = {}
    for field, value in parameters:
        if field != "window":
            raise BadRequestError(field, "unknown query parameter; allowed: window")
        if field in params:
            raise BadRequestError(field, "is given more than once")
        params[field] = value
    return TableQuery(table, tuple(key), _time(params["window"]) if params else None)


def _time(text: str) -> int:
    try:
        return from_rfc3339(text)
    except ValueError as e:
        hint = " (in a URL, `+` is written `%2B`)" if " " in text else ""
        raise BadRequestError("window", f"{e}{hint}") from e


def check(question: TableQuery, job: object) -> None:
    """Raises BadRequestError if the job's table cannot have such a key, as far as the job fixes the number of key
    parts, or if the table has no windows.
    """
    parts: int | None = None
    if isinstance(job, Keyed):
        parts = 1
        if question.window is not None:
            raise BadRequestError("window", f"table {question.table} has no windows; leave the parameter out")
    elif isinstance(job, Windowed) and job.key is not None and not callable(job.key):
        parts = len(job.key)
    if parts is not None and len(question.key) != parts:
        raise BadRequestError("key", f"has {len(question.key)} parts; a key of table {question.table} has {parts}")


def select_cells(found: Sequence[Any], question: TableQuery) -> list[Any]:
    """Selects those of a key's cells that the question is about."""
    return [cell for cell in found if question.window is None or cell.start == question.window]


def is_final(cell: object) -> bool:
    """Whether it says that its window is closed."""
    return isinstance(cell, WindowCell) and cell.final


def shown(cell: Any) -> dict[str, Any]:
    """A cell as JSON has it."""
    if not isinstance(cell, WindowCell):
        return {"value": cell.state}
    bounds = {"start": to_rfc3339(cell.start), "end": to_rfc3339(cell.end)}
    return {"window": bounds, "value": cell.result, "final": cell.final}
