"""Stage two of session windows: the source partitions' sessions to each key's sessions (Dataflow model, 2015)."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.aggregates.partials import Partial
from weir.streams.engine.core.offset_metadata import read_metadata, write_metadata
from weir.streams.engine.core.records import Bulk, FlushBatch, Record
from weir.streams.engine.windowed.merge_base import Merging, WindowCell
from weir.streams.engine.windowed.results import cell_key, state_bytes
from weir.streams.engine.windowed.spec import WindowedSpec
from weir.streams.engine.windowed.windows import SessionWindows

#: So many flushes' places in the changelog are told apart; neighbours become one beyond.
FLUSHES = 1024


class SessionState(msgspec.Struct, array_like=True):
    """The state that is committed with the partials' offset. `restore_from` None: no session is live."""

    outputs: int
    watermarks: list[int | None]
    horizons: list[int | None]
    restore_from: int | None
    counted: int


class Session:
    """One session of one key, from its first to its last event (epoch ms), both included.

    `kept`: the changelog has it. `emitted`: the output has it, or may have it after a restore.
    """

    __slots__ = ("emitted", "end", "kept", "start", "state")

    def __init__(self, start: int, end: int, state: Any, kept: bool = False, emitted: bool = False) -> None:
        self.start, self.end, self.state, self.kept, self.emitted = start, end, state, kept, emitted


class MergeSessions(Merging):
    """Stage two of sessions. One that grows into another, and so takes its start, leaves a tombstone where the other
    one was.

    A session is closed once the merged watermark has passed its end by the gap and the grace. It stays until no source
    partition can deliver an event that would touch it, so that a late event revises it.
    """

    def __init__(self, job: WindowedSpec, windows: SessionWindows, partition: int, sources: int, outputs: int) -> None:
        super().__init__(job, partition, sources, outputs)
        self._windows = windows
        self._sessions: dict[Key, list[Session]] = {}  # each key's, in order
        self._dirty: set[Key] = set()
        self._in_flight: set[Key] = set()
        self._changed: dict[Key, set[int]] = {}  # the starts of the sessions that changed
        self._vanished: dict[tuple[int, Key], Session] = {}  # was written, and is part of an earlier one now
        self._open: list[tuple[int, Key]] = []  # a heap of (end, key): open when last changed
        self._closed: list[tuple[int, Key]] = []  # the same of closed ones
        self._places: deque[tuple[int, int]] = deque()  # (changelog offset or earlier, the last end written there)

    def restore(self, metadata: str | None) -> None:
        if metadata is not None:
            self._take_up(read_metadata(metadata, SessionState))

    def restore_cells(self, records: Iterable[Record]) -> int:
        """The latest of a key and start is the session; a tombstone ends one."""
        read, load = self._job.reads_cells, self._job.aggregation.load
        found: dict[Key, dict[int, Session]] = {}
        gone, open_from = self._gone_before(), self._open_from()
        for record in records:
            start, end, key, plain = read(record)
            self._place(record.offset(), end)
            if plain is None:
                found.get(key, {}).pop(start, None)
            else:
                # One that is open may have been closed before: a tombstone too many does no harm.
                found.setdefault(key, {})[start] = Session(start, end, load(plain), kept=True, emitted=True)
        for key, sessions in found.items():
            if live := [sessions[start] for start in sorted(sessions) if sessions[start].end >= gone]:
                self._sessions[key] = live
                for session in live:
                    heapq.heappush(self._closed if session.end < open_from else self._open, (session.end, key))
        return sum(map(len, self._sessions.values()))

    def _merge(self, partial: Partial, offset: int) -> None:
        load = self._job.aggregation.load
        for _, keys, lists in partial.cells:
            for key, sessions in zip(keys, lists, strict=True):
                for start, end, plain in sessions:
                    self._add(key, Session(start, end, load(plain)))

    def _add(self, key: Key, new: Session) -> None:
        """Puts a session to the key's, as one with those that it touches."""
        own, gap = self._sessions.setdefault(key, []), self._windows.gap
        # They do not touch each other, so their ends are in order too.
        begin = bisect_left(own, new.start - gap, key=_end)
        end = bisect_right(own, new.end + gap, begin, key=_start)
        touched = own[begin:end]
        changed = self._changed.setdefault(key, set())
        self._dirty.add(key)
        whole = new
        if touched:
            # The earliest goes on: where its start stays, what is written replaces what was there.
            first, *others = sorted([*touched, new], key=_start)
            whole = first
            for other in others:
                whole.end = max(whole.end, other.end)
                whole.state = self._job.aggregation.merge(whole.state, other.state)
                changed.discard(other.start)
                if other.kept and other.start != whole.start:
                    self._vanished[other.start, key] = other
        own[begin:end] = [whole]
        changed.add(whole.start)
        heapq.heappush(self._open, (whole.end, key))

    def take(self, changelog_end: int) -> FlushBatch | None:
        open_from = self._open_from()
        closing = self._closing(open_from)
        if not self._unflushed and not closing:
            return None
        written = self._written(open_from, closing, changelog_end)
        bulks = [bulk for bulk in written if bulk.records]
        self._in_flight, self._dirty = self._dirty, set()
        self._changed, self._vanished = {}, {}
        self._forget()
        self._unflushed = self._advanced = False
        marks, first = self._marks, self._places[0][0] if self._places else None
        state = SessionState(self._outputs, marks.watermarks, marks.horizons, first, self._counted)
        return FlushBatch([], write_metadata(state), bulks)

    def committed(self) -> None:
        self._in_flight = set()

    def find(self, key: Key) -> list[WindowCell]:
        """The key's sessions, the latest first."""
        result, open_from = self._job.aggregation.result, self._open_from()
        own = reversed(self._sessions.get(key, []))
        return [WindowCell(s.start, s.end, result(s.state), s.end < open_from) for s in own]

    def pending(self, key: Key) -> bool:
        """Whether something of the key's is not committed yet."""
        return key in self._dirty or key in self._in_flight

    def _open_from(self) -> int:
        watermark = self._marks.watermark
        return -1 if watermark is None else self._windows.open_from(watermark)

    def _gone_before(self) -> int:
        """A session that ends before this is closed, and no event that would touch it can come."""
        horizon = self._marks.horizon
        if horizon is None:
            return -1
        return min(self._windows.late_before(horizon) - self._windows.gap, self._open_from())

    def _closing(self, open_from: int) -> dict[Key, set[int]]:
        """The starts of the sessions that close now, by key."""
        found: dict[Key, set[int]] = {}
        while self._open and self._open[0][0] < open_from:
            end, key = heapq.heappop(self._open)
            session = self._ending(key, end)
            if session is not None:  # else it has grown since, and stands in the heap again
                found.setdefault(key, set()).add(session.start)
                heapq.heappush(self._closed, (end, key))
        return found

    def _written(self, open_from: int, closing: dict[Key, set[int]], changelog_end: int) -> Iterator[Bulk]:
        """Yields the sessions that changed or close: as results, and as states if the job has a separate changelog."""
        job, write, aggregation = self._job, self._job.writes_cells, self._job.aggregation
        results: list[tuple[bytes, bytes | None]] = []
        states: list[bytes] = []
        changelog: list[tuple[bytes, bytes | None]] = []
        for (start, key), session in self._vanished.items():
            state = state_bytes(start, session.end, key, None)
            if session.emitted:
                results.append(
                    (write(start, session.end, [(key, aggregation.result(session.state))], False)[0][0], None)
                )
                states.append(state)
            changelog.append((cell_key(start, key), state))
            self._place(changelog_end, session.end)
        for key in {**self._changed, **closing}:
            changed, closes = self._changed.get(key, set()), closing.get(key, set())
            for session in self._sessions[key]:
                if session.start not in changed and session.start not in closes:
                    continue
                final = session.end < open_from
                state = state_bytes(session.start, session.end, key, aggregation.dump(session.state))
                if final or not job.emits_on_close:
                    result = aggregation.result(session.state)
                    results += write(session.start, session.end, [(key, result)], final)
                    states.append(state)
                    session.emitted = True
                if final and aggregation.settle is not None:
                    session.state = aggregation.settle(session.state)
                if session.start in changed:
                    changelog.append((cell_key(session.start, key), state))
                session.kept = True
                self._place(changelog_end, session.end)
        yield Bulk(job.output.name, self._partition, results, states if job.states_in_headers else None)
        if job.changelog is not None:
            yield Bulk(job.changelog.name, self._partition, changelog)

    def _place(self, offset: int, end: int) -> None:
        """Notes that a session that ends then is in the changelog at this offset or after."""
        places = self._places
        if places and places[-1][0] == offset:
            places[-1] = offset, max(end, places[-1][1])
            return
        places.append((offset, end))
        if len(places) > FLUSHES:
            old, last = list(places)[:FLUSHES], places[-1]
            paired = zip(old[::2], old[1::2], strict=True)
            self._places = deque([*((a[0], max(a[1], b[1])) for a, b in paired), last])

    def _ending(self, key: Key, end: int) -> Session | None:
        """The key's session that ends just then."""
        own = self._sessions.get(key, [])
        at = bisect_left(own, end, key=_end)
        return own[at] if at < len(own) and own[at].end == end else None

    def _forget(self) -> None:
        gone = self._gone_before()
        while self._closed and self._closed[0][0] < gone:
            end, key = heapq.heappop(self._closed)
            session = self._ending(key, end)
            if session is not None:
                self._sessions[key].remove(session)  # the first, or near it
                if not self._sessions[key]:
                    del self._sessions[key]
        while self._places and self._places[0][1] < gone:
            self._places.popleft()


def _start(session: Session) -> int:
    return session.start


def _end(session: Session) -> int:
    return session.end
