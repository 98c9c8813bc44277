"""The endpoints of an intake as a service of a test's own, and what has come onto its topic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import ClientSession, web
from confluent_kafka import Message, TopicPartition

from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.infra.http import HttpLimits, HttpServer
from weir.infra.kafka import client as kafka
from weir.infra.runtime.clock import wall_clock
from weir.producers.ingest.server import Ingest, Intake


@dataclass
class Said:
    """An HTTP answer of the ingest service."""

    status: int
    headers: Any
    body: Any

    @property
    def verdicts(self) -> list[str]:
        return [event["status"] for event in self.body["events"]]


def event(n: int, **fields: Any) -> dict[str, Any]:
    """A good event of a client, the `n`-th, but for these fields."""
    good = {"client_id": "c", "event_id": f"e-{n}", "event_timestamp": 1, "event_type": "CUMULATIVE",
            "event_key": "k", "event_value": n}  # fmt: skip
    return good | fields


def metric(n: int, **fields: Any) -> dict[str, Any]:
    """A good metric event, the `n`-th, but for these fields."""
    return {"timestamp": 1, "user_id": f"u-{n}", "event_type": "login", "value": n} | fields


class Service:
    """An intake's endpoints at a port of their own, and a client of theirs."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        session: ClientSession,
        ingest: Ingest,
        app: web.Application,
        port: int,
    ) -> None:
        self._config, self._intake, self.session = config, intake, session
        self.ingest, self.app, self.port = ingest, app, port
        self.url = f"http://127.0.0.1:{port}{intake.path}"

    async def post(self, body: Any, type_: str = "application/json", **headers: str) -> Said:
        """Posts an object or a list as JSON, anything else as it is."""
        data = msgspec.json.encode(body) if isinstance(body, dict | list) else body
        async with self.session.post(self.url, data=data, headers={"Content-Type": type_} | headers) as response:
            assert response.content_type == "application/json"
            return Said(response.status, response.headers, await response.json())

    def records(self) -> list[Message]:
        """The topic's records, in order within each partition."""
        return read(self._config, self._intake)


def read(config: Config, intake: Intake) -> list[Message]:
    """The records of the intake's topic, in order within each partition."""
    consumer = kafka.consumer(config, **{"auto.offset.reset": "earliest"})
    try:
        name = config.topic(intake.topic.name)
        partitions = consumer.list_topics(name, timeout=PATIENCE_S).topics[name].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(name, p), 10)[1] for p in partitions}
        consumer.assign([TopicPartition(name, p, 0) for p in partitions])
        found: list[Message] = []
        while len(found) < sum(ends.values()):
            found += consumer.consume(10_000, 0.1)
        return found
    finally:
        consumer.close()


def elements(config: Config, intake: Intake) -> list[Any]:
    """The events in the topic's records, in order within each partition."""
    decoder = intake.topic.decoder()
    assert decoder is not None
    return [element for record in read(config, intake) for element, _ in decoder.elements(record.value())]


@asynccontextmanager
async def serving(
    config: Config,
    intake: Intake,
    check: Callable[[Any], object] | None = None,
    clock: Callable[[], int] = wall_clock,
    waits: bool = False,
) -> AsyncIterator[Service]:
    """The service, open; or with `waits` as it is before Kafka answered. Ended in order with the block."""
    ingest = Ingest(config, intake, check=check, clock=clock)
    app = web.Application()  # as it comes: its limit of a body's size is 1 MiB
    app.add_routes(ingest.routes())
    server = HttpServer(app, HttpLimits.of(config.http), shutdown=2.0)
    await server.start("127.0.0.1", 0)
    work = asyncio.create_task(ingest.work())
    try:
        if not waits:
            await until_async(lambda: work.done() or ingest.state == "running")
        async with ClientSession() as session:
            yield Service(config, intake, session, ingest, app, server.port)
            await ingest.close()
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await server.stop()
