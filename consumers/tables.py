"""A topic's place in Postgres, declared: what a sink needs to know, and all it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

from schemas.topic import Topic

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """Topic `topic` is stored in table `name`; of two records with the same key the later one stands.

    `columns` are the stored columns with their Postgres types, `key` those of the primary key. `row` makes the
    values, in the order of `columns`, from one element of the topic and the partition it came from.
    """

    topic: Topic
    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    row: Callable[[Any, int], Row]

    @cached_property
    def key_of(self) -> Callable[[Row], Hashable]:
        """Gives the primary key of a row."""
        names = list(self.columns)
        return itemgetter(*(names.index(name) for name in self.key))
