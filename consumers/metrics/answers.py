"""Answers about the last N minutes of metrics, ready before they are asked for.

Merging a thousand types takes from a tenth of a second to some seconds, so no request waits for it but the first: what
was asked for lately is made anew every second, in a thread. The interpreter is shared with that thread: a call into the
sketches' library keeps it for a few dozen microseconds, and whoever runs this lets threads take turns quickly
(`weir.infra.runtime.interpreter`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from threading import Event, Lock, Thread
from typing import NamedTuple

import msgspec

from weir.consumers.metrics.minute_buckets import MetricMinutes
from weir.consumers.metrics.revisions import MetricView
from weir.consumers.metrics.states import MINUTE, Figures
from weir.infra.config import Config
from weir.infra.errors import OverloadError
from weir.infra.progress.progress import Lag
from weir.infra.runtime.clock import wall_clock
from weir.infra.runtime.threads import in_daemon
from weir.schemas.times import to_rfc3339

#: How often answers are made anew, in seconds, and what part of the time the thread rests at least.
_EVERY, _REST = 1.0, 0.2
#: How often it looks whether there is something to take in, in seconds.
_LOOK = 0.05
#: An answer that nobody has asked for in so many seconds is not made anew; what it was merged from is kept for longer.
_ASKED, _REMEMBERED = 15.0, 600.0
#: Of so many N answers are made anew, and is kept what they were merged from: some 25 KB per type and N.
_MOST = 8
#: So many revisions are taken in before others get their turn.
_TURN = 50
#: After so many revisions, if not a minute, minutes that are old are folded.
_FOLD = 10_000
#: So many answers are made at once for those who wait, and so many may be waited for.
_AT_ONCE, _WAITING = 2, 64
#: Which part of the types is merged ahead of time, each time.
_PART = 16

_encode = msgspec.json.Encoder().encode


class _Piece(NamedTuple):
    """Cached JSON of one event type; valid while its `changes` and the `minute` are the same."""

    changes: int
    minute: int
    json: bytes


class MetricAnswers:
    """Takes in what the view reads, and answers. Of one event loop; `clock` gives epoch milliseconds."""

    def __init__(self, config: Config, view: MetricView, clock: Callable[[], int] = wall_clock) -> None:
        self._view, self._clock, self._retention = view, clock, config.metrics.retention
        self._minutes = MetricMinutes(self._retention)
        self._lock = Lock()  # for the minutes; held for a millisecond or so
        self._taking = Lock()  # for taking from the view, in order
        self._asked: dict[int, float] = {}  # N to when, in seconds, monotonic
        self._ready: dict[int, bytes] = {}
        self._pieces: dict[int, dict[str, _Piece]] = {}
        self._flights: dict[int, asyncio.Task[bytes]] = {}
        self._next_flights: dict[int, asyncio.Task[bytes]] = {}
        self._cold = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._rounds = self._taken = self._folded_at = self._folded_in = 0
        self._stopped = Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._run, name="metric-answers", daemon=True)

    async def work(self) -> None:
        """Runs until cancelled."""
        self._thread.start()
        await self._failed

    async def close(self) -> None:
        """Makes no more answers; waits for a second at most."""
        self._stopped.set()
        if self._thread.is_alive():
            await in_daemon(lambda: self._thread.join(1.0))

    def knows(self, event_type: str) -> bool:
        """Whether there is something of the type."""
        return self._minutes.changes(event_type) > 0

    def facts(self) -> dict[str, int]:
        """How many `types` there are, of how many N answers are `ready`, how many revisions were `taken`, and how many
        of these came when the quantiles of their minutes could not be revised any more (`unsettled`)."""
        return {
            "types": len(self._minutes.types()),
            "ready": len(self._ready),
            "taken": self._taken,
            "unsettled": self._minutes.unsettled,
        }

    async def all(self, minutes: int, fresh: bool = False) -> bytes:
        """Returns the figures of every event type over the last `minutes` minutes, as JSON, at most a little more than
        a second old.

        `fresh`: with all that the view has read by now.

        Raises OverloadError.
        """
        self._asked[minutes] = time.monotonic()
        if fresh:
            following = self._next_flights.get(minutes)
            if following is None:
                following = self._next_flights[minutes] = asyncio.create_task(self._next_flight(minutes))
            return await asyncio.shield(following)
        if (ready := self._ready.get(minutes)) is not None:
            return ready
        return await asyncio.shield(self._flights.get(minutes) or self._fly(minutes))

    def _fly(self, minutes: int) -> asyncio.Task[bytes]:
        flight = self._flights[minutes] = asyncio.create_task(self._in_turn(lambda: self._make(minutes)))
        flight.add_done_callback(lambda _: self._flights.pop(minutes, None))
        return flight

    async def _next_flight(self, minutes: int) -> bytes:
        """For those who come before it begins: one that is under way may have taken in what was read before."""
        while (flight := self._flights.get(minutes)) is not None:
            await asyncio.wait([flight])
        del self._next_flights[minutes]
        return await self._fly(minutes)

    async def take_in(self) -> None:
        """Takes in all that the view has read by now."""
        await in_daemon(self._take_in)

    async def one(self, event_type: str, minutes: int) -> bytes:
        """Returns the figures of one type, as of now. Raises OverloadError."""
        return await self._in_turn(lambda: self._make_one(event_type, minutes))

    async def _in_turn(self, work: Callable[[], bytes]) -> bytes:
        if self._waiting >= _WAITING:
            raise OverloadError(f"{_WAITING} answers are already being computed; retry later")
        self._waiting += 1
        try:
            async with self._cold:
                return await in_daemon(work)
        finally:
            self._waiting -= 1

    # What follows is done in threads.

    def _run(self) -> None:
        due = 0.0
        try:
            while not self._stopped.is_set():
                self._take_in()
                self._fold()
                begun = time.monotonic()
                if begun >= due:
                    self._refresh(begun)
                    now = time.monotonic()
                    due = max(begun + _EVERY, now + _REST * (now - begun))
                if not self._view.waiting:
                    self._stopped.wait(_LOOK)
        except Exception as e:  # noqa: BLE001 - handed to the one who runs it
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._fail, e)

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    def _take_in(self) -> None:
        """Applies all queued revisions to the minute buckets."""
        with self._taking:
            left = self._view.waiting
            while left > 0:
                revisions = self._view.take(_TURN)
                left = left - len(revisions) if revisions else 0
                with self._lock:
                    for revision in revisions:
                        if revision is None:
                            self._minutes = MetricMinutes(self._retention)
                            self._pieces.clear()
                            self._ready.clear()
                        else:
                            self._minutes.revise(*revision)
                self._taken += len(revisions)

    def _fold(self) -> None:
        """Once a minute, folds what is old, and merges ahead of questions; while much is taken in, folds more often."""
        now = self._clock()
        much, minute = self._taken >= self._folded_at + _FOLD, now // MINUTE
        if not much and minute == self._folded_in:
            return
        self._folded_at = self._taken
        for event_type in self._minutes.types():
            with self._lock:
                self._minutes.tidy(event_type, now)
            if not much:
                with self._lock:
                    self._minutes.prepare(event_type, now)
        if not much:
            self._folded_in = minute

    def _refresh(self, now: float) -> None:
        """Makes anew what was asked for lately, and forgets the rest."""
        self._rounds += 1
        by_time = sorted(self._asked.items(), key=lambda asked: -asked[1])
        for place, (minutes, asked) in enumerate(by_time):
            if place >= _MOST or asked < now - _REMEMBERED:
                del self._asked[minutes]
                self._pieces.pop(minutes, None)
                with self._lock:
                    self._minutes.forget(minutes)
        for minutes in list(self._ready):
            if self._asked.get(minutes, 0.0) < now - _ASKED:
                self._ready.pop(minutes, None)
            else:
                self._make(minutes)

    def _make(self, minutes: int) -> bytes:
        """The answer about all types, which is the one that is ready from now on."""
        lag, now = self._caught_up()
        minute, source = now // MINUTE, self._minutes
        before = self._pieces.get(minutes, {})
        pieces: dict[str, _Piece] = {}
        for number, event_type in enumerate(sorted(source.types())):
            changes = source.changes(event_type)
            piece = before.get(event_type)
            if piece is None or (piece.changes, piece.minute) != (changes, minute):
                spare = (number + self._rounds) % _PART == 0
                with self._lock:
                    found = source.figures(event_type, minutes, now, remember=True, spare=spare)
                piece = _Piece(changes, minute, _figures(event_type, found))
            pieces[event_type] = piece
        answer = _answer(minutes, now, lag, (piece.json for piece in pieces.values() if piece.json))
        with self._lock:
            if self._minutes is source:  # else all of it is void
                self._pieces[minutes], self._ready[minutes] = pieces, answer
        return answer

    def _make_one(self, event_type: str, minutes: int) -> bytes:
        lag, now = self._caught_up()
        with self._lock:
            found = self._minutes.figures(event_type, minutes, now)
        return _answer(minutes, now, lag, [_figures(event_type, found)])

    def _caught_up(self) -> tuple[Lag, int]:
        """Takes in what was read by now. How far that is behind, and the time."""
        lag, now = self._view.lag(), self._clock()
        self._take_in()
        return lag, now


def _figures(event_type: str, figures: Figures | None) -> bytes:
    return b"" if figures is None else b"%b:%b" % (_encode(event_type), _encode(figures))


def _answer(minutes: int, now: int, lag: Lag, pieces: Iterable[bytes]) -> bytes:
    end = (now // MINUTE + 1) * MINUTE
    head = {"from": to_rfc3339(end - minutes * MINUTE), "to": to_rfc3339(end), "as_of": to_rfc3339(now), "lag": lag}
    return b'%b,"aggregates":{%b}}' % (_encode(head)[:-1], b",".join(pieces))
