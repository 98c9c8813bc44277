"""What topics hold, in memory: rebuilt at each start from their beginnings, and how far it is behind them.

Records are read in a thread, and taken in on the event loop, a few milliseconds at a time. Every second Kafka is asked
what there is: so a topic that was made again, or of which all was deleted (`weir reset`), is noticed, which starts the
view anew, and one that got more partitions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from confluent_kafka import Message

from consumers.topic_replay import Batch, Edges, Place, Replay, Survey
from infra import kafka, log
from infra.config import Config
from infra.errors import KafkaUnavailableError
from infra.tasks import until_failed
from infra.threads import in_daemon
from schemas.topic import Topic

#: How often Kafka is asked what there is, in seconds, and after how many it is away if it did not answer.
_EVERY = 1.0
_SILENT = 3.0
#: The pause before it reads on where that was not possible, in seconds.
_PAUSE = 0.2
#: How long taking in may last before others get their turn, in seconds, and after how many elements one looks.
_TURN = 0.002
_ELEMENTS = 16

_log = log.get("view")

T = TypeVar("T")


class Lag(msgspec.Struct, frozen=True):
    """How far a view is behind: so many `records` were written and are not in it, markers of transactions included, and
    all that was written `ms` milliseconds ago is. As of a second ago at most, while Kafka answers; None: not known yet.
    """

    records: int | None
    ms: int | None


@dataclass
class _Read:
    """How far it has read since it began, and what there was; put in place at once, since other threads ask for it.

    `times`: when the last record read of a place was written (epoch ms). `whole`: when it is known to have had all that
    there was, in seconds, monotonic; None: it has not come to the end.
    """

    edges: Edges
    positions: dict[Place, int]
    times: dict[Place, int]
    whole: float | None


class MemoryView(Generic[T]):
    """Feeds `apply` with every element of the topics, those of a partition in order, each once; `clear` is called
    before it begins from the beginnings, each time. Of one event loop, but for `lag`, which any thread may call.

    `decode` is called in a thread, with a topic's own name and a record, and raises PoisonError where that cannot be
    used: it is logged and left out. `clock` gives epoch milliseconds, and so does `since`: what was written before that
    is not read.
    """

    def __init__(
        self,
        config: Config,
        topics: Sequence[Topic],
        decode: Callable[[str, Message], T],
        apply: Callable[[T], None],
        clear: Callable[[], None],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        since: Callable[[], int] | None = None,
    ) -> None:
        self._config, self._topics, self._since = config, topics, since
        self._decode, self._apply, self._clear, self._clock = decode, apply, clear, clock
        self._now: _Read | None = None
        self._replay: Replay[T] | None = None
        self._again = asyncio.Event()
        self._batches: deque[Batch[T]] = deque()
        self._rest: Iterator[tuple[Place, int, T]] = iter(())
        self._turn: asyncio.Handle | None = None
        self._read = self._unreadable = self._deleted = 0

    async def open(self) -> None:
        """Makes the topics where they are missing, and begins to read. Raises KafkaUnavailableError; then it may be
        called again."""
        if self._now is None:
            self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await in_daemon(lambda: kafka.ensure_topics(self._config, self._topics, timeout=5))
            self._survey = Survey(self._config, self._topics, self._since)
            self._begin(await in_daemon(self._survey.ask), None)

    async def work(self) -> None:
        """Runs until cancelled, however long Kafka is away. Raises WeirError where nothing can be read any more."""
        await until_failed(self._watch(), self._failed)

    async def close(self) -> None:
        """Reads no more."""
        if self._turn is not None:
            self._turn.cancel()
        if (replay := self._replay) is not None:
            await in_daemon(replay.close)

    @property
    def has_anything(self) -> bool:
        """Whether anything has been read, or there is nothing to read."""
        return self._read > 0 or self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether it has come to the end of the topics since it began from their beginnings."""
        return self._now is not None and self._now.whole is not None

    @property
    def state(self) -> str:
        """`starting` until it is whole for the first time, `waiting` while Kafka does not answer, else `running`."""
        if self._now is not None and not _is_answered(self._now.edges):
            return "waiting"
        return "running" if self.is_whole else "starting"

    def lag(self) -> Lag:
        """How far it is behind now."""
        if (now := self._now) is None:
            return Lag(None, None)
        edges, positions, times = now.edges, now.positions.copy(), now.times.copy()  # it is read on meanwhile
        behind = {p: end - positions[p] for p, (_, end) in edges.places.items() if end > positions[p]}
        records = sum(behind.values())
        if not behind and _is_answered(edges):
            return Lag(0, 0)
        if (whole := now.whole) is not None:
            return Lag(records, int((time.monotonic() - whole) * 1000))
        written = [times[place] for place in behind if place in times]
        return Lag(records, max(0, self._clock() - min(written)) if written else None)

    def facts(self) -> dict[str, int]:
        """Records `read`, those left out because they were `unreadable`, and offsets that Kafka had `deleted` before
        they were read."""
        return {"read": self._read, "unreadable": self._unreadable, "deleted": self._deleted}

    # What is read.

    def _begin(self, edges: Edges, positions: dict[Place, int] | None) -> None:
        """Reads from `positions` on, and where there is none, or records before it are gone, from what is first. None:
        all from the beginnings."""
        self._stop()
        before = None if positions is None else self._now
        if before is None:
            self._clear()
            self._read = self._unreadable = self._deleted = 0
        known = positions or {}
        if positions is None and self._since is not None:
            known = {place: first for place, (first, _) in edges.places.items()}
        start = {place: max(known.get(place, 0), first) for place, (first, _) in edges.places.items()}
        for place, position in start.items():
            if deleted := position - known.get(place, 0):
                self._deleted += deleted
                _log.warning("view.records_deleted", topic=place[0], partition=place[1], records=deleted)
        times, whole = ({}, None) if before is None else (before.times, before.whole)
        self._now = _Read(edges, start, times, whole)
        replay: Replay[T] = Replay(self._config, start, self._decode, self._deliver, self._fail)
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

    def _deliver(self, replay: Replay[T], batch: Batch[T]) -> None:
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
                        self._apply(element)
                        positions[place] = offset + 1
                    if number % _ELEMENTS == 0 and time.monotonic() > until:
                        self._turn = asyncio.get_running_loop().call_soon(self._take_turn)
                        return
                self._taken(self._batches.popleft(), self._now)
                self._rest = iter(self._batches[0].elements if self._batches else ())
        except Exception as e:  # noqa: BLE001 - handed to the one who runs the view
            self._fail(e)
        self._turn = None

    def _taken(self, batch: Batch[T], now: _Read) -> None:
        for place, position in batch.reached.items():
            now.positions[place] = max(position, now.positions[place])
        now.times |= batch.times
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

    def _compare(self, edges: Edges, before: dict[Place, int]) -> None:
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
            if now.whole is None:
                _log.info("view.whole", **self.facts())
            now.whole = now.edges.asked


def _is_answered(edges: Edges) -> bool:
    return time.monotonic() - edges.asked < _SILENT


class Viewed:
    """Something that stands on a `MemoryView`: how far that one is, so far is this."""

    _view: MemoryView[Any]

    @property
    def has_anything(self) -> bool:
        """Whether there is something to answer from: part of it is there, or there is nothing."""
        return self._view.has_anything

    @property
    def is_whole(self) -> bool:
        """Whether it has come to the end of its topics since it began to read: what is not in it then is unknown."""
        return self._view.is_whole

    @property
    def state(self) -> str:
        """`starting` until it is whole, `waiting` while Kafka does not answer, else `running`."""
        return self._view.state

    async def open(self) -> None:
        """Begins to read. Raises KafkaUnavailableError; then it may be called again."""
        await self._view.open()

    async def work(self) -> None:
        """Runs until cancelled, however long Kafka is away. Raises WeirError where nothing can be read any more."""
        await self._view.work()

    async def close(self) -> None:
        """Reads no more."""
        await self._view.close()

    def lag(self) -> Lag:
        """How far it is behind its topics."""
        return self._view.lag()
