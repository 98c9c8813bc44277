"""A broadcaster of a test's own on a real Kafka, and its subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from confluent_kafka import TopicPartition

from support.broadcast.broadcast_subscribers import Client
from support.wait import PATIENCE_S
from weir.consumers.broadcast.server import Broadcaster
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.websocket import Limits, WebSocketServer
from weir.schemas.topics import BROADCAST


class Running:
    def __init__(self, server: WebSocketServer, broadcaster: Broadcaster, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.broadcaster = broadcaster
        self._session = session

    async def subscribe(self, query: str = "", path: str = "/websocket") -> Client:
        socket = await self._session.ws_connect(
            f"http://127.0.0.1:{self.server.port}{path}{query and '?' + query}", autoclose=False, max_msg_size=0
        )
        return Client(socket)

    async def refused(self, query: str) -> tuple[int, str]:
        async with self._session.get(
            f"http://127.0.0.1:{self.server.port}/websocket?{query}",
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        ) as response:
            return response.status, await response.text()


@asynccontextmanager
async def broadcasting(config: Config, limits: Limits | None = None) -> AsyncIterator[Running]:
    broadcaster = Broadcaster(config)
    await broadcaster.open()
    server = WebSocketServer(broadcaster.routes(), limits or Limits())
    await server.start("127.0.0.1", 0)
    work = asyncio.create_task(broadcaster.work())
    try:
        async with aiohttp.ClientSession() as session:
            yield Running(server, broadcaster, session)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await server.stop(1001, broadcaster.close_reason)
        await broadcaster.close()


def trim(config: Config, keep_from: dict[int, int]) -> None:
    """Deletes the records before these offsets."""
    topic = config.topic(BROADCAST.name)
    places = [TopicPartition(topic, p, offset) for p, offset in keep_from.items()]
    client = clients.admin(config)  # by name: without it there is nobody to hear the answer
    for future in client.delete_records(places).values():
        future.result(PATIENCE_S)
