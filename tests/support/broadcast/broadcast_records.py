"""A listener of a test's own, senders to it, and what has come onto topic `broadcast`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from aiohttp import ClientSession, ClientWebSocketResponse, encode_basic_auth
from confluent_kafka import Message, TopicPartition

from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.runtime.status import read_all
from weir.producers.broadcast.server import run
from weir.schemas.topics import BROADCAST


def who(user: str, password: str) -> dict[str, str]:
    return {"Authorization": encode_basic_auth(user, password)}


AUTH = who("user", "pwd")


def read(config: Config, count: int | None = None) -> list[Message]:
    """The records of the topic, in order within each partition; fails where there are not `count`."""
    consumer = kafka.consumer(config, **{"auto.offset.reset": "earliest"})
    try:
        name = config.topic(BROADCAST.name)
        partitions = consumer.list_topics(name, timeout=PATIENCE_S).topics[name].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(name, p), 10)[1] for p in partitions}
        assert count in (None, sum(ends.values()))
        consumer.assign([TopicPartition(name, p, 0) for p in partitions])
        found: list[Message] = []
        while len(found) < sum(ends.values()):
            found += consumer.consume(10_000, 0.1)
        return found
    finally:
        consumer.close()


def by_channel(config: Config) -> dict[str, list[bytes]]:
    """Every channel's messages in order."""
    found = defaultdict[str, list[bytes]](list)
    for message in read(config):
        found[(message.key() or b"").decode()].append(message.value() or b"")
    return found


@asynccontextmanager
async def beside(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """A service that runs beside the block; ended in order, and in time, with it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE_S)


@asynccontextmanager
async def listening(config: Config) -> AsyncIterator[None]:
    """A listener that runs beside the block."""
    async with beside(run(config)):
        await until_async(lambda: any(s.name.startswith("listener") and s.state == "running" for s in read_all(config)))
        yield


@asynccontextmanager
async def sender(config: Config, query: str = "", path: str = "/websocket") -> AsyncIterator[ClientWebSocketResponse]:
    url = f"http://{config.host}:{config.broadcast.listener_port}{path}{query}"
    async with ClientSession() as session, session.ws_connect(url, headers=AUTH, max_msg_size=0) as socket:
        yield socket


async def acked(socket: ClientWebSocketResponse, number: int) -> list[int]:
    """Returns the acknowledgements up to that of message `number`; nothing else may arrive."""
    numbers = [0]
    while numbers[-1] < number:
        numbers.append((await socket.receive_json(timeout=PATIENCE_S))["ack"])
    return numbers[1:]
