"""The way out of the broadcast: every message of topic `broadcast` goes to every subscriber that wants it, in order.

Any number of broadcasters run side by side; each reads the whole topic once, whatever the number of its subscribers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from weir.consumers.broadcast import subscription_query as subscriptions
from weir.consumers.broadcast.catch_up import CatchUp, Follower, check_partitions
from weir.consumers.broadcast.fan_out import FanOut
from weir.consumers.broadcast.replay_buffer import ReplayBuffer
from weir.consumers.broadcast.source import EntryBatch, History, LiveReader
from weir.consumers.broadcast.subscription_query import SubscriptionQuery
from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.kafka import client as kafka
from weir.infra.prometheus import Reading
from weir.infra.retry_after import RETRY_SOON
from weir.infra.runtime.lifecycle import ServiceLifecycle, ServicePart
from weir.infra.runtime.threads import in_daemon
from weir.infra.websocket import Connection, Handler, HandshakeRequest, Refusal, Route
from weir.infra.websocket.frames import MAX_REASON
from weir.infra.websocket.service import WebSocketEndpoint
from weir.schemas.broadcast import Hello, format_position
from weir.schemas.topics import BROADCAST

#: Where messages are received.
PATHS = ("/websocket", "/ws/broadcast", "/ws/broadcaster")
#: After so many writes the event loop has its turn.
_WRITES = 256
#: How long a batch is held back at most for subscribers whose queue is half full, in seconds, and how often.
_PAUSE = 0.002
_PAUSES = 10
#: How often the topic's edges are looked at, in seconds: for what was trimmed, and whether Kafka answers.
_LOOK = 5.0
_TRY_AGAIN = 1013

_log = log.get_logger("broadcaster")


class Broadcaster(ServicePart):
    """Hands messages out on any number of servers' routes. Until `open` is done subscribers get 503."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._batches: asyncio.Queue[EntryBatch] = asyncio.Queue()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._subscribers: dict[Connection, Subscriber] = {}
        self._reader: LiveReader | None = None
        self._history: History | None = None
        self._memory = ReplayBuffer({}, 0)
        self._live: FanOut[Follower] = FanOut(0)
        self._catch_up: CatchUp | None = None
        self._fanning = asyncio.Lock()
        self._messages = 0
        self._away = False
        self._stopping = False
        self._half = config.broadcast.queue // 2

    def routes(self, *paths: str) -> list[Route]:
        """The routes for subscribers."""
        return [Route(path, self._answer, quiet=True) for path in paths or PATHS]

    async def open(self) -> None:
        """Makes the topic, and reads its latest messages into memory. Raises KafkaUnavailableError; then it may be
        called again."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, (BROADCAST,), timeout=5))
        reader = LiveReader(self._config, self._batches.put_nowait, self._fail)
        start, entries, edges = await in_daemon(reader.warm_up)
        self._history = History(self._config)
        self._memory = ReplayBuffer(start, self._config.broadcast.memory)
        self._memory.append(entries)
        self._live = FanOut(len(edges))
        self._catch_up = CatchUp(self._memory, self._history, self._went_live)
        self._reader = reader
        reader.start()
        _log.info("broadcaster.ready", messages=len(entries), position=format_position(self._memory.next))

    async def work(self) -> None:
        """Hands out until cancelled. Raises WeirError where nothing can be read any more."""
        assert self._catch_up is not None
        tasks = [asyncio.ensure_future(work) for work in (self._hand_out(), self._catch_up.run(), self._look())]
        try:
            await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, self._failed):
                if task.done():
                    task.result()
        finally:
            self._stopping = True
            async with self._fanning:  # every subscriber has the same, so that positions are true
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Reads no more. The connections are open afterwards, and are the server's to close, with `close_reason`."""
        self._stopping = True
        if self._catch_up is not None:
            self._catch_up.close()
        endings = [in_daemon(ending.close) for ending in (self._reader, self._history) if ending is not None]
        await asyncio.gather(*endings)

    def close_reason(self, connection: Connection) -> str:
        """The reason to close a connection with when the service stops: from where to go on."""
        subscriber = self._subscribers.get(connection)
        return "" if subscriber is None else subscriber.close_reason()

    @property
    def state(self) -> str:
        """`waiting` while Kafka does not answer, else `running`."""
        return "waiting" if self._away else "running"

    def facts(self) -> dict[str, int]:
        """Figures for the status file."""
        return {"subscribers": len(self._subscribers), "messages": self._messages, "in_memory": len(self._memory)}

    def metrics(self) -> list[Reading]:
        """Messages out, and who receives them."""
        return [
            Reading(prometheus.SUBSCRIBERS, len(self._subscribers)),
            Reading(prometheus.HANDED_OUT, self._messages),
        ]

    # Subscribers.

    def _answer(self, request: HandshakeRequest) -> Handler | Refusal:
        if self._catch_up is None or self._stopping:
            return Refusal(503, "this broadcaster is starting or stopping; retry later", RETRY_SOON)
        try:
            return Subscriber(self, subscriptions.parse(request.query))
        except ValueError as e:
            return Refusal(400, str(e))

    def joined(self, subscriber: Subscriber) -> None:
        """A subscriber's connection is open: it is live at once where nothing older has to be sent."""
        assert self._catch_up is not None
        self._subscribers[subscriber.connection] = subscriber
        subscription, memory = subscriber.subscription, self._memory
        partitions = subscription.partitions(len(memory.next))
        if subscription.after is not None:
            start = {p: subscription.after.get(p, -1) for p in partitions}
            known = subscription.after.keys() <= memory.next.keys()
            if known and memory.covers(start) and not memory.is_ahead(start):
                subscriber.position = start
        elif subscription.last is not None:
            start, found = memory.latest(subscription.filter.channel, partitions, subscription.last)
            if found == subscription.last:
                subscriber.position = start
        else:
            subscriber.greet({p: memory.next[p] for p in partitions}, recovered=True)
            self._went_live(subscriber)
            return
        if subscriber.position is not None:
            subscriber.greet(subscriber.position, recovered=True)
        self._catch_up.add(subscriber)

    def left(self, subscriber: Subscriber) -> None:
        """Removes a subscriber whose connection has closed."""
        self._subscribers.pop(subscriber.connection, None)
        self._live.leave(subscriber, subscriber.subscription.filter)

    def position_of(self, subscription: SubscriptionQuery) -> Mapping[int, int]:
        """Where the live ones are, as far as it matters to a subscription."""
        return {p: self._memory.next[p] for p in subscription.partitions(len(self._memory.next))}

    def _went_live(self, subscriber: Follower) -> None:
        subscriber.is_live, subscriber.position = True, None
        if subscriber.connection.is_open:
            self._live.join(subscriber, subscriber.subscription.filter)

    # Messages.

    async def _hand_out(self) -> None:
        assert self._reader is not None
        while True:
            batch = await self._batches.get()
            async with self._fanning:
                if batch.restarts:
                    self._restart(batch.restarts)
                if batch.entries:
                    await self._fan_out(batch)
            self._reader.taken()
            await self._let_read()

    async def _fan_out(self, batch: EntryBatch) -> None:
        """To all that are live now; who goes live from now on has had the batch from memory."""
        assert self._catch_up is not None
        payloads = self._live.payloads(batch.entries, self._memory.next)
        self._memory.append(batch.entries)
        self._messages += len(batch.entries)
        self._catch_up.grown()
        writes = 0
        for subscribers, payload in payloads:
            for subscriber in subscribers:
                subscriber.connection.send_frame(payload)
                writes += 1
                if writes % _WRITES == 0:
                    await asyncio.sleep(0)

    async def _let_read(self) -> None:
        """Where more waits to be handed out already, those who read get the time to: it is our pace, not theirs."""
        await asyncio.sleep(0)
        for _ in range(_PAUSES):
            if self._batches.empty() or all(s.connection.waiting <= self._half for s in self._live):
                return
            await asyncio.sleep(_PAUSE)

    def _restart(self, restarts: Mapping[int, int]) -> None:
        """Records are lost that nobody has read. Whoever is connected has to hear of it, and comes again."""
        assert self._catch_up is not None
        for partition, offset in restarts.items():
            self._memory.restart(partition, offset)
        self._catch_up.grown()  # what it made of the old ones is void
        for connection in list(self._subscribers):
            connection.close(_TRY_AGAIN, "messages were deleted before they were read")

    async def _look(self) -> None:
        """Forgets what was trimmed, and notices a Kafka that is away."""
        assert self._history is not None
        while True:
            try:
                edges = await in_daemon(self._history.edges)
            except RetryableError as e:
                if not self._away:
                    _log.warning("broadcaster.waiting", error=str(e), subscribers=len(self._subscribers))
                self._away = True
            else:
                if self._away:
                    _log.info("broadcaster.goes_on", subscribers=len(self._subscribers))
                self._away = False
                check_partitions(self._memory, edges)
                self._memory.trim({partition: low for partition, (low, _) in edges.items()})
            await asyncio.sleep(_LOOK)

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)


class Subscriber:
    """One connection that receives. `position` is what it gets next while it is behind, where that is known."""

    __slots__ = ("_broadcaster", "connection", "is_live", "position", "since", "subscription")

    connection: Connection

    def __init__(self, broadcaster: Broadcaster, subscription: SubscriptionQuery) -> None:
        self._broadcaster = broadcaster
        self.subscription = subscription
        self.position: Mapping[int, int] | None = None
        self.since = 0.0
        self.is_live = False

    def opened(self, connection: Connection) -> None:
        """Joins the others."""
        self.connection = connection
        self._broadcaster.joined(self)

    def message(self, data: bytes, binary: bool) -> None:
        """Subscribers have nothing to say here."""

    def closed(self, code: int, reason: str) -> None:
        """Leaves."""
        self._broadcaster.left(self)

    def greet(self, position: Mapping[int, int], recovered: bool) -> None:
        """Sends the hello, where it was asked for."""
        if self.subscription.hello:
            self.connection.send(msgspec.json.encode(Hello(format_position(position), recovered)))

    def close_reason(self) -> str:
        """`position=…`, where it is known and a close frame has room for it."""
        position = self._broadcaster.position_of(self.subscription) if self.is_live else self.position
        if position is None:
            return ""
        reason = f"position={format_position(position)}"
        return reason if len(reason) <= MAX_REASON else ""


async def run(config: Config, name: str | None = None) -> None:
    """`weir run broadcaster`, at WEIR_HOST and WEIR_BROADCASTER_PORT, until cancelled.

    Every subscriber is closed with its position.
    """
    broadcaster, port = Broadcaster(config), config.broadcast.broadcaster_port
    lifecycle = ServiceLifecycle(
        config, "broadcaster", facts=broadcaster.facts,
        name=name or f"broadcaster-{port}", address=f"ws://{config.host}:{port}",
    )  # fmt: skip
    endpoint = WebSocketEndpoint(config, {port: broadcaster.routes()}, lifecycle, broadcaster.close_reason)
    await lifecycle.run(broadcaster, endpoint)
