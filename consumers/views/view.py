"""Materialised views: the content of topics in memory, rebuilt from their beginnings at each start.

Records are read in a thread, and taken in on the event loop, a few milliseconds at a time. Every second Kafka is asked
what there is: so a topic that was made again, or of which all was deleted (`weir reset`), is noticed, which starts the
view anew, and one that got more partitions.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from confluent_kafka import Message

from weir.consumers.views.replay import Edges, ReplayBatch, Survey, TopicReplay
from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka import client as kafka
from weir.infra.progress.chain import Chain
from weir.infra.progress.progress import Lag, Progress
from weir.infra.prometheus import Reading
from weir.infra.runtime.lifecycle import ServicePart
from weir.infra.runtime.tasks import until_failed
from weir.infra.runtime.threads import in_daemon
from weir.schemas.topic import PartitionId, Topic

#: How often Kafka is asked what there is, in seconds, and after how many it is away if it did not answer.
_EVERY = 1.0
_SILENT = 3.0
#: The pause before it reads on where that was not possible, in seconds.
_PAUSE = 0.2
#: How long taking in may last before others get their turn, in seconds, and after how many elements one looks.
_TURN = 0.002
_ELEMENTS = 16

_log = log.get_logger("view")

T = TypeVar("T")


@dataclass
class _Read:
    """How far it has read since it began, and what there was; put in place at once, since other threads ask for it.

    `whole`: whether it has come to the end of what there was.
    """

    edges: Edges
    positions: dict[PartitionId, int]
    whole: bool


class TopicView(ServicePart, ABC, Generic[T]):
    """A materialised view of topics in memory: a subclass says how a record is decoded, and what each element does.

    `apply` is called with every element, those of a partition in order, each once. How far the view is behind the
    source of its topics is known to `progress`; `chain` says how events come into them. Of one event loop, but for
    `positions`, `caught_up` and `lag`, which any thread may ask for.
    """

    def __init__(self, config: Config, topics: Sequence[Topic], chain: Chain) -> None:
        self._config, self._topics = config, topics
        self._now: _Read | None = None
        self._replay: TopicReplay[T] | None = None
        self._again = asyncio.Event()
        self._batches: deque[ReplayBatch[T]] = deque()
        self._rest: Iterator[tuple[PartitionId, int, T]] = iter(())
        self._turn: asyncio.Handle | None = None
        self._read = self._unreadable = self._deleted = 0
        self.progress = Progress(config, chain, self.positions, lambda: self.caught_up)

    @abstractmethod
    def decode(self, topic: str, record: Message) -> T:
        """Returns the element of a record; `topic` is its name without the prefix. Called in a thread. Raises
        PoisonError for a record that cannot be used: it is logged and left out."""

    @abstractmethod
    def apply(self, element: T) -> None:
        """Applies one element to the view."""

    @abstractmethod
    def clear(self) -> None:
        """Forgets everything: the view is about to begin from the beginnings, at its start as well."""

    def since(self) -> int | None:
        """Returns the time (epoch milliseconds) from which on records are read; None for all."""
        return None

    async def open(self) -> None:
        """Makes the topics where they are missing, and begins to read. Raises KafkaUnavailableError; then it may be
        called again."""
        if self._now is None:
            self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await in_daemon(lambda: kafka.ensure_topics(self._config, self._topics, timeout=5))
            self._survey = Survey(self._config, self._topics, self.since)
            self._begin(await in_daemon(self._survey.ask), None)

    async def work(self) -> None:
        """Runs until cancelled, however long Kafka is away. Raises WeirError where nothing can be read any more."""
        progress = asyncio.create_task(self.progress.work())
        try:
            await until_failed(self._watch(), self._failed, progress)
        finally:
            progress.cancel()

    async def close(self) -> None:
        """Reads no more."""
        if self._turn is not None:
            self._turn.cancel()
        if (replay := self._replay) is not None:
            await in_daemon(replay.close)

    @property
    def has_anything(self) -> bool:
        """Whether anything has been read, or there is nothing to read."""
        return self._read > 0 or self.caught_up

    @property
    def caught_up(self) -> bool:
        """Whether it has come to the end of the topics since it began from their beginnings."""
        return self._now is not None and self._now.whole

    @property
    def state(self) -> str:
        """`waiting` while Kafka does not answer, `starting` until it has caught up for the first time and its lag is
        known, else `running`."""
        if self._is_away:
            return "waiting"
        return "running" if self.caught_up and self.progress.is_known else "starting"

    @property
    def _is_away(self) -> bool:
        return self._now is not None and not _is_answered(self._now.edges)

    def lag(self) -> Lag:
        """Returns how far the view is behind the source of its topics."""
        return self.progress.lag(is_away=self._is_away)

    def positions(self) -> dict[PartitionId, int]:
        """The offsets up to which each place is in it; none before it is open."""
        return {} if (now := self._now) is None else now.positions.copy()  # it is read on meanwhile

    def facts(self) -> dict[str, int]:
        """Records `read`, those left out because they were `unreadable`, and offsets that Kafka had `deleted` before
        they were read."""
        return {"read": self._read, "unreadable": self._unreadable, "deleted": self._deleted}

    def metrics(self) -> list[Reading]:
        """Records read, and how far the view is behind."""
        label, lag = (self._topics[0].name,), self.lag()
        readings = [Reading(prometheus.VIEW_READ, self._read, label)]
        if lag.records is not None:
            readings.append(Reading(prometheus.VIEW_LAG, lag.records, label))
        if lag.ms is not None:
            readings.append(Reading(prometheus.VIEW_LAG_S, lag.ms / 1000, label))
        return readings

    # What is read.

    def _begin(self, edges: Edges, positions: dict[PartitionId, int] | None) -> None:
        """Reads from `positions` on, and where there is none, or records before it are gone, from what is first. None:
        all from the beginnings."""
        self._stop()
        before = None if positions is None else self._now
        if before is None:
            self.clear()
            self._read = self._unreadable = self._deleted = 0
        known = positions or {}
        if positions is None and self.since() is not None:
            known = {place: first for place, (first, _) in edges.places.items()}
        start = {place: max(known.get(place, 0), first) for place, (first, _) in edges.places.items()}
        for place, position in start.items():
            if deleted := position - known.get(place, 0):
                self._deleted += deleted
                _log.warning("view.records_deleted", topic=place[0], partition=place[1], records=deleted)
        self._now = _Read(edges, start, before is not None and before.whole)
        replay: TopicReplay[T] = TopicReplay(self._config, start, self.decode, self._deliver, self._fail)
        self._replay = replay
        replay.start()
        self._note(self._now)

    def _stop(self) -> None:
        if self._replay is not None:
            self._replay.stop()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._batches.clear()
        self._rest = iter(())
        self._again.clear()

    def _deliver(self, replay: TopicReplay[T], batch: ReplayBatch[T]) -> None:
        if replay is self._replay:
            self._batches.append(batch)
            if self._turn is None:
                self._rest = iter(batch.elements)
                self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        assert self._now is not None
        until = time.monotonic() + _TURN
        positions = self._now.positions
        try:
            while self._batches:
                for number, (place, offset, element) in enumerate(self._rest, start=1):
                    if offset >= positions[place]:
                        self.apply(element)
                        positions[place] = offset + 1
                    if number % _ELEMENTS == 0 and time.monotonic() > until:
                        self._turn = asyncio.get_running_loop().call_soon(self._take_turn)
                        return
                self._taken(self._batches.popleft(), self._now)
                self._rest = iter(self._batches[0].elements if self._batches else ())
        except Exception as e:  # noqa: BLE001 - handed to the one who runs the view
            self._fail(e)
        self._turn = None

    def _taken(self, batch: ReplayBatch[T], now: _Read) -> None:
        for place, position in batch.reached.items():
            now.positions[place] = max(position, now.positions[place])
        self._read += len(batch.elements) + batch.unreadable
        self._unreadable += batch.unreadable
        if self._replay is not None:
            self._replay.taken()
        self._note(now)
        if batch.again:
            self._again.set()

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    # What there is.

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), _EVERY)
                await asyncio.sleep(_PAUSE)
            before = dict(self._now.positions) if self._now is not None else {}
            try:
                edges = await in_daemon(self._survey.ask)
            except KafkaUnavailableError as e:
                _log.warning("view.waiting", error=str(e))
                await asyncio.sleep(_EVERY)
                continue
            self._compare(edges, before)

    def _compare(self, edges: Edges, before: dict[PartitionId, int]) -> None:
        """Begins anew where the topics are others than they were, or emptied; `before`: how far was read when it was
        asked."""
        now = self._now
        assert now is not None
        is_other = edges.topics != now.edges.topics or any(
            place not in edges.places or edges.places[place][1] < position for place, position in before.items()
        )
        if is_other or edges.emptied_since(now.edges):
            _log.error("view.begins_anew", topics=sorted(edges.topics), emptied=not is_other)
            self._begin(edges, None)
        elif self._again.is_set() or edges.places.keys() != now.edges.places.keys():
            self._begin(edges, dict(now.positions))
        else:
            now.edges = edges
            self._note(now)

    def _note(self, now: _Read) -> None:
        """Whether all that there was is in."""
        if all(now.positions[place] >= end for place, (_, end) in now.edges.places.items()):
            if not now.whole:
                _log.info("view.whole", **self.facts())
            now.whole = True


def _is_answered(edges: Edges) -> bool:
    return time.monotonic() - edges.asked < _SILENT
