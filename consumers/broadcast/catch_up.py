"""Subscribers that are behind: each is brought to the end of the log, at its own pace, and is live from there on.

What they lack comes from memory where it is there. What is older is read from Kafka once for all that lack about as
much, not once for each. A subscriber is at one place at a time: `ready` (served from memory at the next turn),
`behind` (waits for a read from Kafka), ahead (another broadcaster had been faster), or waiting until what it was sent
is written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from weir.consumers.broadcast.replay_buffer import Entry, ReplayBuffer, SubscriptionFilter, wanted
from weir.consumers.broadcast.source import Edges, History
from weir.consumers.broadcast.subscription_query import SubscriptionQuery, start_of
from weir.infra import log
from weir.infra.errors import KafkaUnavailableError, OffsetLostError, WeirError
from weir.infra.runtime.threads import in_daemon
from weir.infra.websocket import Connection

#: What one subscriber gets at a time, and what one read from Kafka takes, in bytes.
CHUNK = 256 << 10
_READ = 2 << 20
#: How long a turn may last before the live ones get theirs, in seconds, and after how many writes one looks.
_TURN = 0.004
_WRITES = 64
#: How long a subscriber waits for Kafka before it is sent away, in seconds, and the pause between two attempts.
_PATIENCE = 30.0
_PAUSE = 0.5
_TRY_AGAIN = 1013
#: Payloads that are kept for those who stand at the same place.
_SHARED = 128

#: By filter and position: frames, the position behind them, and whether that was all.
_Payloads = dict[tuple[SubscriptionFilter, tuple[tuple[int, int], ...]], tuple[bytes, dict[int, int], bool]]

_log = log.get_logger("broadcaster")


class Follower(Protocol):
    """A subscriber, as far as it concerns how it gets to the end of the log."""

    connection: Connection
    subscription: SubscriptionQuery
    #: What it gets next; None before that is known, and once it is live.
    position: Mapping[int, int] | None
    is_live: bool
    since: float

    def greet(self, position: Mapping[int, int], recovered: bool) -> None:
        """Sends the hello, where it was asked for."""


def check_partitions(memory: ReplayBuffer, edges: Edges) -> None:
    """Raises WeirError where the topic has other partitions than at the start: its channels are elsewhere then."""
    if edges.keys() != memory.next.keys():
        raise WeirError(
            f"topic broadcast has {len(edges)} partitions now, and had {len(memory.next)}: restart the service"
        )


class CatchUp:
    """`live` takes a follower that is at the end of the log, which it is at that very moment."""

    def __init__(self, memory: ReplayBuffer, history: History, live: Callable[[Follower], None]) -> None:
        self._memory = memory
        self._history = history
        self._live = live
        self._ready: deque[Follower] = deque()
        self._turn: asyncio.Handle | None = None
        self._behind: list[Follower] = []
        self._ahead: list[Follower] = []
        self._wake = asyncio.Event()
        self._shared: _Payloads = {}

    def add(self, follower: Follower) -> None:
        """Takes a follower whose `position` is None where it has to be found with Kafka's help."""
        follower.since = time.monotonic()
        if follower.position is None or not self._memory.covers(follower.position):
            self._behind.append(follower)
            self._wake.set()
        else:
            self._ready.append(follower)
            self._take_turn()

    def grown(self) -> None:
        """The log has more: those who were ahead of it may not be any more."""
        self._shared.clear()
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            for follower in ahead:
                self.add(follower)

    async def run(self) -> None:
        """Reads from Kafka what somebody lacks, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._behind:
                try:
                    await self._round()
                except KafkaUnavailableError as e:
                    _log.warning("broadcaster.history_waits", error=str(e), subscribers=len(self._behind))
                    self._send_away()
                    await asyncio.sleep(_PAUSE)
            await in_daemon(self._history.rest)

    def close(self) -> None:
        """Takes no more turns."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._ready.clear()

    # From memory.

    def _take_turn(self) -> None:
        if self._turn is None and self._ready:
            self._turn = asyncio.get_running_loop().call_soon(self._serve_ready)

    def _serve_ready(self) -> None:
        self._turn = None
        until = time.monotonic() + _TURN
        while self._ready and time.monotonic() < until:
            self._advance(self._ready.popleft())
        self._take_turn()

    def _advance(self, follower: Follower) -> None:
        """Sends what follows from memory. Where that is all, and all is written, the follower is live."""
        connection, position = follower.connection, follower.position
        assert position is not None
        if not connection.is_open:
            return
        if connection.waiting:
            connection.when_drained(partial(self.add, follower))
            return
        if not self._memory.covers(position):
            self.add(follower)
            return
        filter_ = follower.subscription.filter
        key = (filter_, tuple(position.items()))
        found = self._shared.get(key)
        if found is None:
            payload, after, done = wanted(self._memory.after(position, filter_.channel), filter_, position, CHUNK)
            if done:  # what is behind it is no concern of the filter
                after = {p: max(offset, self._memory.next[p]) for p, offset in after.items()}
            found = payload, after, done
            if len(self._shared) < _SHARED:
                self._shared[key] = found
        payload, after, done = found
        follower.position = after
        if payload and not connection.send_frame(payload):
            return
        if not done:
            self._ready.append(follower)
        elif connection.waiting:
            connection.when_drained(partial(self.add, follower))
        elif self._memory.is_ahead(after):
            self._ahead.append(follower)
        else:
            self._live(follower)

    # From Kafka.

    async def _round(self) -> None:
        """One search for where somebody starts; one read for the first that waits and all that lack about as much."""
        edges = await in_daemon(self._history.edges)
        check_partitions(self._memory, edges)
        self._behind = [follower for follower in self._behind if follower.connection.is_open]
        found: dict[object, dict[int, int]] = {}
        placed: list[Follower] = []
        unplaced: list[Follower] = []
        for follower in self._behind:
            try:
                is_placed = follower.position is not None or await self._place(follower, edges, found)
            except OffsetLostError as e:
                _log.warning("broadcaster.history_moved", error=str(e))
                return  # the next round sees where the topic begins now
            (placed if is_placed else unplaced).append(follower)
        self._behind = unplaced
        group: list[Follower] = []
        for follower in placed:
            if not follower.connection.is_open:
                continue
            assert follower.position is not None
            if self._memory.covers(follower.position):
                self.add(follower)
            elif not group or self._lacks(follower).bit_length() == self._lacks(group[0]).bit_length():
                group.append(follower)
            else:
                self._behind.append(follower)
        try:
            while group:
                group = await self._read_for(group)
                if self._behind:  # the others have their turn: who reads very much must not keep them waiting
                    self._behind += group
                    break
        except OffsetLostError as e:
            # They were told that nothing is missing: they have to come again to be told what is true now.
            _log.error("broadcaster.history_lost", error=str(e), subscribers=len(group))
            for follower in group:
                follower.connection.close(_TRY_AGAIN, "messages were deleted before they were sent")
        except KafkaUnavailableError:
            self._behind += group
            raise

    async def _place(self, follower: Follower, edges: Edges, found: dict[object, dict[int, int]]) -> bool:
        """Finds where a follower starts, and greets it. `found` is what was searched in this round, for others.

        False where it would need another search: there is one in a round, or who asks for channels that hardly exist
        would keep everybody else waiting.
        """
        subscription = follower.subscription
        recovered = True
        if subscription.last is not None:
            partitions = subscription.partitions(len(edges))
            start, there = self._memory.latest(subscription.filter.channel, partitions, subscription.last)
            if missing := subscription.last - there:
                low = {p: edges[p][0] for p in partitions}
                before = {p: max(self._memory.first[p], low[p]) for p in partitions}
                key = (subscription.filter.channel, missing, tuple(before.items()))
                if key not in found:
                    if found:
                        return False
                    found[key] = await in_daemon(
                        partial(self._history.latest, subscription.filter, missing, before, low)
                    )  # fmt: skip
                start |= {p: offset for p, offset in found[key].items() if offset < before[p]}
        else:
            start, recovered = start_of(subscription, edges)
            if not recovered:
                _log.info("broadcaster.not_recovered", remote=follower.connection.remote, after=subscription.after)
        follower.position = start
        follower.greet(start, recovered)
        return True

    def _lacks(self, follower: Follower) -> int:
        position = follower.position or {}
        return sum(max(0, self._memory.first[p] - offset) for p, offset in position.items())

    async def _read_for(self, group: list[Follower]) -> list[Follower]:
        """One chunk for all of them; those who need more of the same and can take it."""
        start: dict[int, int] = {}
        for follower in group:
            for p, offset in (follower.position or {}).items():
                start[p] = min(start.get(p, offset), offset)
        until = {p: self._memory.first[p] for p in start}
        entries, reached = await in_daemon(partial(self._history.read, start, until, _READ))
        shared: _Payloads = {}
        left = []
        for at, follower in enumerate(group):
            if at % _WRITES == _WRITES - 1:
                await asyncio.sleep(0)
            self._send(follower, entries, reached, shared)
            connection, position = follower.connection, follower.position
            assert position is not None
            if not connection.is_open:
                continue
            if connection.waiting:
                connection.when_drained(partial(self.add, follower))
            elif self._memory.covers(position):
                self.add(follower)
            else:
                left.append(follower)
        return left

    def _send(self, follower: Follower, entries: list[Entry], reached: Mapping[int, int], shared: _Payloads) -> None:
        """Sends chunk after chunk until none is left or the connection does not take one at once, so that queues stay
        bounded.
        """
        connection, filter_ = follower.connection, follower.subscription.filter
        done = False
        while not done and connection.is_open and not connection.waiting:
            assert follower.position is not None
            key = (filter_, tuple(follower.position.items()))
            found = shared.get(key)
            if found is None:
                payload, after, done = wanted(entries, filter_, follower.position, _READ)
                if done:
                    after = {p: max(offset, reached[p]) for p, offset in after.items()}
                found = payload, after, done
                if len(shared) < _SHARED:
                    shared[key] = found
            payload, follower.position, done = found
            if payload:
                connection.send_frame(payload)

    def _send_away(self) -> None:
        """Closes the connections that need records of Kafka, which has been away for too long."""
        now = time.monotonic()
        for follower in self._behind:
            if now - follower.since > _PATIENCE:
                follower.connection.close(_TRY_AGAIN, "Kafka does not answer")
        self._behind = [follower for follower in self._behind if now - follower.since <= _PATIENCE]
