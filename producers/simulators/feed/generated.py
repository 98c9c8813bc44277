"""A feed at random, and the same one again for the same seed: relations, calls, and now and then new relations."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from weir.infra.errors import ConfigError
from weir.producers.simulators.feed.recorded import Timed
from weir.schemas.links import Communication, Relation

_CALLS = (
    ("GET", "/list", (200, 200, 200, 304, 400, 404)),
    ("GET", "/items/7", (200, 200, 404)),
    ("POST", "/orders", (201, 201, 409, 422)),
    ("PUT", "/profile", (200, 204, 403)),
    ("DELETE", "/session", (204, 401)),
    ("GET", "/health", (200, 200, 200, 503)),
)


@dataclass(frozen=True)
class RandomFeed:
    """Parameters of a random feed.

    `rate`: communications per second; `batch`: communications per message (1: sent singly, more: as lists);
    `relations_every`: seconds from one list of new relations to the next; `duration`: seconds, None: without end.
    A few services talk most of the time, most talk rarely. Raises ConfigError for values that make no feed.
    """

    parents: int = 12
    children: int = 60
    rate: float = 20.0
    relations_every: float = 20.0
    batch: int = 1
    duration: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.parents < 1 or self.children < 2 or self.batch < 1:
            raise ConfigError("a random feed needs at least one parent, two children and a batch of 1")
        if not (self.rate > 0 and self.relations_every > 0 and (self.duration is None or self.duration >= 0)):
            raise ConfigError("a random feed's rate, interval and duration must be positive")

    def messages(self) -> Iterator[Timed]:
        """The feed from its start: the first message holds the relations of all children."""
        mesh = _Mesh(random.Random(self.seed), self.parents)
        yield Timed(0.0, msgspec.json.encode([mesh.add_child() for _ in range(self.children)]))
        sent, changes = 0, 0
        while True:
            calls_at = (sent + self.batch) / self.rate
            change_at = (changes + 1) * self.relations_every
            at = min(calls_at, change_at)
            if self.duration is not None and at > self.duration:
                return
            if change_at <= calls_at:
                changes += 1
                yield Timed(at, msgspec.json.encode(mesh.change()))
            else:
                sent += self.batch
                calls = [mesh.call() for _ in range(self.batch)]
                yield Timed(at, msgspec.json.encode(calls if self.batch > 1 else calls[0]))


class _Mesh:
    """Services, their instances, and who calls whom."""

    def __init__(self, rng: random.Random, parents: int) -> None:
        self._rng = rng
        self._parents = [self._new_id() for _ in range(parents)]
        self._children: list[str] = []
        self._weights: list[float] = []

    def add_child(self) -> Relation:
        child = self._new_id()
        self._children.append(child)
        self._weights = []
        return Relation(self._rng.choice(self._parents), child)

    def change(self) -> list[Relation]:
        """New relations: some new children, at times of a new parent, and some known children that move."""
        if self._rng.random() < 0.25:
            self._parents.append(self._new_id())
        added = [self.add_child() for _ in range(self._rng.randint(1, 3))]
        moved = [
            Relation(self._rng.choice(self._parents), child)
            for child in self._rng.sample(self._children[: -len(added)], k=self._rng.randint(0, 2))
        ]
        return added + moved

    def call(self) -> Communication:
        source, destination = self._rng.choices(self._children, cum_weights=self._cumulated(), k=2)
        method, path, statuses = self._rng.choice(_CALLS)
        return Communication(source, destination, method, path, self._rng.choice(statuses))

    def _cumulated(self) -> list[float]:
        if not self._weights:
            self._weights = list(accumulate(1 / rank for rank in range(1, len(self._children) + 1)))
        return self._weights

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
