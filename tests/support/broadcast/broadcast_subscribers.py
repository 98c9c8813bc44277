"""Senders that write to Kafka as the listener does, and subscribers of another make."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import aiohttp

from support.wait import PATIENCE_S
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.schemas.broadcast import BINARY, FRAME_HEADER, partition_of
from weir.schemas.topics import BROADCAST


class Sender:
    """Writes messages as the listener does."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._producer = clients.producer(config)

    def send(self, *messages: str | bytes, channel: str | None = None, at: int = 0) -> None:
        """Returns once Kafka has them; `at` is their time in epoch milliseconds, 0: now."""
        for message in messages:
            self._producer.produce(
                self._config.topic(BROADCAST.name),
                message if isinstance(message, bytes) else message.encode(),
                None if channel is None else channel.encode(),
                partition_of(channel, self._config.kafka.partitions),
                timestamp=at,
                headers=[(FRAME_HEADER, BINARY)] if isinstance(message, bytes) else [],
            )
        assert self._producer.flush(30) == 0


class Client:
    """A subscriber of another make."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def texts(self, count: int) -> list[str]:
        return [await self.socket.receive_str(timeout=PATIENCE_S) for _ in range(count)]

    async def objects(self, count: int) -> list[Any]:
        return [json.loads(text) for text in await self.texts(count)]

    async def hello(self) -> tuple[str, bool]:
        (hello,) = await self.objects(1)
        assert hello.pop("type") == "hello"
        return hello["position"], hello["recovered"]

    async def end(self) -> tuple[int | None, str]:
        message = await self.socket.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.CLOSE
        return message.data, message.extra


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 120))
