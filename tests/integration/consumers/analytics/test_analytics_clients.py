"""Clients that ask for a download and do not take it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from support.tenants.tenant_rows import DAYS, Made, Tables
from support.wait import PATIENCE_S
from weir.consumers.analytics.repository import AnalyticsRepository
from weir.consumers.analytics.routes import MAX_DOWNLOADS, AnalyticsApi
from weir.infra.config import Config
from weir.infra.http import HttpLimits, HttpServer

PATH = "/analytics/tenants/3/events?format=csv&from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z"


@pytest.fixture
def tables(config: Config) -> Iterator[Tables]:
    """More rows than the buffers of a connection hold."""
    made = Tables(config)
    made.tenant(3)
    made.store(*(Made(3, DAYS[0], n, 1, payload=f'{{"a": "{"x" * 200_000}"}}') for n in range(100)))
    yield made
    made.close()


@asynccontextmanager
async def serving(config: Config, limits: HttpLimits) -> AsyncIterator[int]:
    """Gives the port."""
    repository = AnalyticsRepository(config)
    await repository.open()
    app = web.Application()
    app.router.add_routes(AnalyticsApi(repository, limits=limits).routes())
    server = HttpServer(app, limits, shutdown=0.1)
    await server.start("127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.stop()
        await repository.close()


async def asks(port: int, of: str = "127.0.0.1", wanted: bytes = b"200") -> socket.socket:
    """A client that has asked, and has read that the download begins, or what else is answered."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    client.bind((of, 0))
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, f"GET {PATH} HTTP/1.1\r\nHost: weir\r\n\r\n".encode())
    assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 " + wanted)
    return client


async def lets_another(port: int) -> int:
    """The length of the download that there is in the end."""
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{port}{PATH}") as answer:
                if answer.status == 200:
                    return len(await answer.read())
                assert answer.status == 503
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_who_does_not_read_keeps_no_download_from_others(
    config: Config, tables: Tables, leaves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def asked() -> None:
        async with serving(config, HttpLimits(write=PATIENCE_S if leaves else 1.0)) as port:
            with ExitStack() as clients:
                for _ in range(MAX_DOWNLOADS):
                    client = clients.enter_context(await asks(port))
                    if leaves:
                        client.close()
                assert await lets_another(port) > 20_000_000

    asyncio.run(asked())
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


def test_an_address_has_half_of_the_downloads(config: Config, tables: Tables) -> None:
    async def asked() -> None:
        async with serving(config, HttpLimits(from_loopback=1)) as port:
            with ExitStack() as clients:
                for _ in range(MAX_DOWNLOADS // 2):
                    clients.enter_context(await asks(port))
                clients.enter_context(await asks(port, wanted=b"503"))
                clients.enter_context(await asks(port, of="127.0.0.2"))

    asyncio.run(asked())
