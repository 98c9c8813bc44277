"""The way in of the broadcast: each WebSocket message becomes one record of topic `broadcast`, byte for byte."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.errors import WeirError
from weir.infra.prometheus import Reading
from weir.infra.retry_after import RETRY_SOON, retry_after
from weir.infra.runtime.lifecycle import ServiceLifecycle, ServicePart
from weir.infra.runtime.tasks import until_failed
from weir.infra.websocket import Connection, Handler, HandshakeRequest, Held, Refusal, Route
from weir.infra.websocket.basic_auth import CHALLENGE, BasicAuth, check_credentials
from weir.infra.websocket.service import FLUSH_TIMEOUT, WebSocketEndpoint
from weir.producers.broadcast.writer import BroadcastWriter
from weir.schemas.broadcast import Ack, Refused, check_channel, partition_of

#: Where messages are sent to.
PATHS = ("/websocket", "/ws/manager")

_KNOWN = {"channel", "ack"}
_WAITING = msgspec.json.encode({"waiting": "Kafka does not answer"})
_NOT_READY = Refusal(503, "this listener is starting or stopping; retry later", RETRY_SOON)

_log = log.get_logger("listener")


class Listener(ServicePart):
    """Takes messages in on any number of servers' routes, checks who sends, and acknowledges where that is asked for.
    Before `open` and after `close` senders get 503.

    While Kafka is away or behind, nothing is read from any sender. `clock` gives seconds, monotonic. Raises
    ConfigError where the credentials cannot be used, or are the known ones and others reach this machine.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        check_credentials(config)
        self._clock = clock
        self._auth = BasicAuth(config.broadcast.user, config.broadcast.password)
        self._writer = BroadcastWriter(config, self._acknowledge, self._adjust)
        self._senders: set[SenderConnection] = set()
        self._unsaid: set[SenderConnection] = set()
        self._ready = self._silent = False
        self._messages = self._refused = 0
        self._limited = log.Limited(_log, clock)

    def routes(self, *paths: str) -> list[Route]:
        """The routes for senders."""
        return [Route(path, self._answer) for path in paths or PATHS]

    async def open(self) -> None:
        """Makes the topic. Raises KafkaUnavailableError; then it may be called again."""
        await self._writer.open()
        self._ready = True

    async def work(self) -> None:
        """Runs until cancelled. Raises WeirError where nothing can be written any more."""
        await until_failed(self._writer.watch(), self._writer.failed)

    async def close(self) -> None:
        """Reads no more, gives Kafka `FLUSH_TIMEOUT` seconds for what was read, and sends the last acknowledgements.

        The connections are open afterwards, and are the server's to close.
        """
        if not self._ready:
            return
        self._ready = False
        self._adjust()
        if left := await self._writer.flush(FLUSH_TIMEOUT):
            _log.error("listener.left_behind", unacknowledged=left)

    @property
    def state(self) -> str:
        """`waiting` while Kafka does not answer, else `running`."""
        return "waiting" if self._writer.is_silent else "running"

    def facts(self) -> dict[str, int]:
        """Figures for the status file."""
        facts = {"senders": len(self._senders), "messages": self._messages, "refused": self._refused}
        return facts | {"unacknowledged": self._writer.pending if self._ready else 0}

    def metrics(self) -> list[Reading]:
        """Messages in, and who sends them."""
        facts = self.facts()
        return [
            Reading(prometheus.SENDERS, facts["senders"]),
            Reading(prometheus.TAKEN, facts["messages"]),
            Reading(prometheus.TURNED_DOWN, facts["refused"]),
            Reading(prometheus.UNACKNOWLEDGED, facts["unacknowledged"]),
        ]

    def _answer(self, request: HandshakeRequest) -> Handler | Refusal | Held:
        if not self._ready:
            return _NOT_READY
        verdict = self._auth.check(request.headers.get("authorization"), request.remote, self._clock())
        made: Handler | Refusal
        if verdict.status == 429:
            retry = retry_after(verdict.retry_after)
            return Refusal(429, "wrong credentials, after too many wrong ones from this address", retry)
        if verdict.status == 401:
            if "authorization" in request.headers:
                self._limited.warning("listener.unauthorized", remote=request.remote, path=request.path)
            made = Refusal(401, "sending needs a user and a password (HTTP Basic)", CHALLENGE)
        else:
            made = self._sender(request.query)
        return Held(verdict.delay, made) if verdict.delay > 0 else made

    def _sender(self, query: Mapping[str, str]) -> Handler | Refusal:
        for field in query.keys() - _KNOWN:
            return Refusal(400, f"`{field}` is an unknown query parameter; allowed: channel, ack")
        channel = query.get("channel")
        try:
            if channel is not None:
                check_channel(channel)
        except ValueError as e:
            return Refusal(400, str(e))
        if query.get("ack", "1") not in ("0", "1"):
            return Refusal(400, "`ack` must be 0 or 1")
        return SenderConnection(self, self._writer, channel, query.get("ack") == "1")

    # What senders tell.

    def joined(self, sender: SenderConnection) -> None:
        """A sender's connection is open."""
        self._senders.add(sender)
        if self._writer.is_held or not self._ready:
            sender.hold(self._writer.is_silent)

    def left(self, sender: SenderConnection) -> None:
        """Forgets a sender whose connection has closed; messages received before are still written."""
        self._senders.discard(sender)

    def written(self, sender: SenderConnection | None) -> None:
        """Records that Kafka has a message; `sender` gets its acknowledgement at the end of this turn."""
        self._messages += 1
        if sender is not None:
            self._unsaid.add(sender)

    def refused(self, why: str) -> None:
        """A message was not taken."""
        self._refused += 1
        self._limited.warning("listener.refused", messages=self._refused, last=why)

    # What the writer tells.

    def _acknowledge(self) -> None:
        unsaid, self._unsaid = self._unsaid, set()
        for sender in unsaid:
            sender.acknowledge()

    def _adjust(self) -> None:
        held, silent = self._writer.is_held or not self._ready, self._writer.is_silent
        if silent != self._silent:
            self._silent = silent
            say = _log.warning if silent else _log.info
            facts = {"senders": len(self._senders), "unacknowledged": self._writer.pending}
            say("listener.waiting" if silent else "listener.goes_on", **facts)
        for sender in list(self._senders):
            if held:
                sender.hold(silent)
            else:
                sender.release()


class SenderConnection:
    """One connection that sends. Its messages are numbered from 1, and all go to one partition, so that delivery
    results arrive in their order.
    """

    def __init__(self, listener: Listener, writer: BroadcastWriter, channel: str | None, acks: bool) -> None:
        self._listener = listener
        self._writer = writer
        self._partition = partition_of(channel, writer.partitions)
        self._key = None if channel is None else channel.encode()
        self._acks = acks
        self._received = 0
        self._acked = self._said = 0
        self._told = False
        self._connection: Connection | None = None

    def opened(self, connection: Connection) -> None:
        """Joins the others."""
        self._connection = connection
        self._listener.joined(self)

    def message(self, data: bytes, binary: bool) -> None:
        """Hands it to Kafka."""
        self._received = number = self._received + 1

        def on_delivery(error: WeirError | None, _: object) -> None:
            if error is not None:
                self._refuse(number, str(error))
            else:
                self._acked = number
                self._listener.written(self if self._acks else None)

        self._writer.send(self._partition, self._key, data, binary, on_delivery)

    def closed(self, code: int, reason: str) -> None:
        """Leaves."""
        self._connection = None
        self._listener.left(self)

    def acknowledge(self) -> None:
        """Says how far Kafka has everything, where that is news."""
        if self._connection is not None and self._acks and self._acked > self._said:
            self._said = self._acked
            self._connection.send(msgspec.json.encode(Ack(self._acked)))

    def hold(self, silent: bool) -> None:
        """Reads no more; says once why, where Kafka is `silent` and acknowledgements are awaited."""
        if self._connection is not None:
            self._connection.pause()
            if silent and self._acks and not self._told:
                self._told = True
                self._connection.send(_WAITING)

    def release(self) -> None:
        """Reads on."""
        self._told = False
        if self._connection is not None:
            self._connection.resume()

    def _refuse(self, number: int, error: str) -> None:
        self._listener.refused(error)
        self.acknowledge()  # what came before is said before
        if self._connection is not None:
            self._connection.send(msgspec.json.encode(Refused(error, number)))


async def run(config: Config, name: str | None = None) -> None:
    """`weir run listener`, at WEIR_HOST and WEIR_LISTENER_PORT, until cancelled.

    What was read by then is flushed, and the last acknowledgements are sent.
    """
    listener, port = Listener(config), config.broadcast.listener_port
    lifecycle = ServiceLifecycle(
        config, "listener", facts=listener.facts,
        name=name or f"listener-{port}", address=f"ws://{config.host}:{port}",
    )  # fmt: skip
    await lifecycle.run(listener, WebSocketEndpoint(config, {port: listener.routes()}, lifecycle))
