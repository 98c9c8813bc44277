"""What may be asked of `GET /tables`, and what is answered: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from schemas.errors import WeirError
from schemas.times import from_rfc3339, to_rfc3339
from streams.engine.aggregation import Key
from streams.engine.keyed import Keyed
from streams.engine.merging import Found
from streams.engine.windowed import Windowed


class BadRequestError(WeirError):
    """A part of the request cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"`{field}`: {reason}")
        self.field, self.reason = field, reason


class Question(NamedTuple):
    """Which cells of table `table`: all of the key, or those of the window that starts at `window` (epoch ms)."""

    table: str
    key: Key
    window: int | None = None


def parse(path: str, parameters: Iterable[tuple[str, str]]) -> Question:
    """The question in a request's path, as it was sent (nothing in it decoded), and its parameters.

    >>> parse("/tables/link-counts/a%2Fb/c", [("window", "1970-01-01T00:01:00Z")])
    Question(table='link-counts', key=('a/b', 'c'), window=60000)

    Raises BadRequestError.
    """
    try:
        _, _, table, *key = [unquote(segment, errors="strict") for segment in path.split("/")]
    except UnicodeDecodeError as e:
        raise BadRequestError("key", "is not percent-encoded UTF-8") from e
    except ValueError as e:
        raise BadRequestError("table", "is missing") from e
    if not key:
        raise BadRequestError("key", "is missing: write its parts as /tables/TABLE/PART/PART")
    given: dict[str, str] = {}
    for field, value in parameters:
        if field != "window":
            raise BadRequestError(field, "there is no such parameter; there is window")
        if field in given:
            raise BadRequestError(field, "is given more than once")
        given[field] = value
    return Question(table, tuple(key), _time(given["window"]) if given else None)


def _time(text: str) -> int:
    try:
        return from_rfc3339(text)
    except ValueError as e:
        hint = " (in a URL, `+` is written `%2B`)" if " " in text else ""
        raise BadRequestError("window", f"{e}{hint}") from e


def check(question: Question, job: object) -> None:
    """Raises BadRequestError where the job's table cannot have such a key, as far as the job says how many parts a key
    has, or has no windows.
    """
    parts: int | None = None
    if isinstance(job, Keyed):
        parts = 1
        if question.window is not None:
            raise BadRequestError("window", f"{question.table} has none")
    elif isinstance(job, Windowed) and job.key is not None and not callable(job.key):
        parts = len(job.key)
    if parts is not None and len(question.key) != parts:
        raise BadRequestError("key", f"has {len(question.key)} parts, and those of {question.table} have {parts}")


def chosen(found: Sequence[Any], question: Question) -> list[Any]:
    """Of a key's cells those that the question is about."""
    return [cell for cell in found if question.window is None or cell.start == question.window]


def is_final(cell: object) -> bool:
    """Whether it says that its window is closed."""
    return isinstance(cell, Found) and cell.final


def shown(cell: Any) -> dict[str, Any]:
    """A cell as JSON has it."""
    if not isinstance(cell, Found):
        return {"value": cell.state}
    bounds = {"start": to_rfc3339(cell.start), "end": to_rfc3339(cell.end)}
    return {"window": bounds, "value": cell.result, "final": cell.final}
