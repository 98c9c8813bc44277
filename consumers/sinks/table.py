"""A topic's place in Postgres, declared: what a sink needs to know, and all it needs to know."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import psycopg

from weir.schemas.topic import Topic

Row = tuple[Any, ...]
#: The values of a rollup's key, in the order of its columns.
Key = tuple[Any, ...]


class Conflict(enum.Enum):
    """How a row is stored when the table already has a row with its key."""

    #: The later one stands.
    REPLACE = "replace"
    #: The first one stands.
    IGNORE = "ignore"
    #: There is no key: every element is a row of its own.
    APPEND = "append"


@dataclass(frozen=True)
class Reference:
    """Values of `column` must be in `target` of table `table`; elements whose value is not are refused for `reason`.

    `detail` says so of one value, which it is given. Looked at before the transaction: what is deleted meanwhile is for
    a foreign key to find, of the table or of a rollup.
    """

    column: str
    table: str
    target: str
    reason: str
    detail: Callable[[Any], str]


@dataclass(frozen=True)
class Rollup:
    """Aggregate of a table's rows per `key`, kept in table `name` in the transaction that stores the rows.

    `fold` makes a cell per key of a batch's rows, pure. `merged` makes the row of `name`, in the order of `columns`,
    from a key, its cell, and the row that is stored there so far. Only the sink writes to `name`.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    fold: Callable[[Iterable[Row]], Mapping[Key, Any]]
    merged: Callable[[Key, Any, Row | None], Row]


@dataclass(frozen=True)
class Table:
    """Topic `topic` is stored in table `name`.

    `columns` are the stored columns with their Postgres types, `key` those of the primary key, `conflict` what
    becomes of a second row with the same key. `row` makes the values, in the order of `columns`, from one element of
    the topic and the partition it came from; it raises PoisonError for an element that is none.

    What else there may be: `rollups` and `references`; `prepare`, called before a batch's rows are written, outside of
    the transaction, with those whose references are there; and what makes it faster: `plain` makes rows of records'
    values, and None of a value that is not one plain element, which then is looked at as usual; `encode` makes rows'
    bytes as binary COPY has them; `order` is what rows are sorted by before they are appended, so that neighbours in an
    index come together. `batch`: elements per transaction, about.
    """

    topic: Topic
    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    row: Callable[[Any, int], Row]
    conflict: Conflict = Conflict.REPLACE
    rollups: tuple[Rollup, ...] = ()
    references: tuple[Reference, ...] = ()
    prepare: Callable[[psycopg.Connection, Sequence[Row]], object] | None = None
    plain: Callable[[Sequence[bytes]], Sequence[Row | None]] | None = None
    encode: Callable[[Iterable[Row]], Sequence[bytes]] | None = None
    order: Callable[[Row], Any] | None = None
    batch: int = 10_000

    def __post_init__(self) -> None:
        if (self.conflict is Conflict.APPEND) == bool(self.key):
            raise ValueError(f"{self.name}: a table has either a key or Conflict.APPEND")
        if (self.encode or self.order) and (self.conflict is not Conflict.APPEND or not self.encode):
            raise ValueError(f"{self.name}: `encode` and `order` need Conflict.APPEND, and `order` needs `encode`")
        if self.rollups and self.conflict is not Conflict.APPEND:
            raise ValueError(f"{self.name}: `rollups` need Conflict.APPEND, since a replaced row would count twice")

    @cached_property
    def key_of(self) -> Callable[[Row], Hashable]:
        """Gives the primary key of a row."""
        names = list(self.columns)
        return itemgetter(*(names.index(name) for name in self.key))

    def standing(self, rows: Sequence[Row]) -> Iterable[Row]:
        """Returns the rows that remain by the conflict rule."""
        if self.conflict is Conflict.APPEND:
            return rows
        latest = rows if self.conflict is Conflict.REPLACE else reversed(rows)
        return {self.key_of(row): row for row in latest}.values()

    def place(self, column: str) -> int:
        """Where a column's value is in a row."""
        return list(self.columns).index(column)
