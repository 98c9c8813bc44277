"""Clients that send events and never read what becomes of them: what they hold is counted, bounded, and given back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
from aiohttp import ClientSession, TCPConnector

from support.http.ingest_service import Service, metric, serving
from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.infra.http import ANSWERS
from weir.producers.ingest import websocket as ingest_websocket
from weir.producers.ingest.routes import UNTOLD
from weir.producers.ingest.server import METRICS

#: Each has a verdict of about 70 bytes.
EVENTS = 20_000
BODY = b"[" + b",".join([b"{}"] * EVENTS) + b"]"
HEAD = b"POST /metric-events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
UPGRADE = (
    b"GET /ws/metric-events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
#: A masked frame; a mask of zeros changes nothing.
FRAME = b"\x82\xff" + struct.pack("!Q", len(BODY)) + bytes(4) + BODY


async def sends(service: Service, data: bytes) -> socket.socket:
    """A client with hardly any room for an answer, which has sent as much of the data as is taken in a while."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", service.port))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3):
            await loop.sock_sendall(client, data)
    return client


def test_a_websocket_that_never_reads_is_read_no_further_and_then_cut(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_websocket, "WAITING", 500_000)

    async def main() -> None:
        async with serving(config.replace(WEIR_HTTP_WRITE=6_000), METRICS) as service:
            budget = service.app[ANSWERS]
            deaf = await sends(service, UPGRADE + 64 * FRAME)
            await until_async(lambda: budget.size > 0)
            # One answer is being written; of the others there are as many bytes as may wait, and one message more.
            one = 16 * EVENTS + 2_000
            await until_async(lambda: 0 < service.ingest.facts()["in_flight_bytes"] <= 500_000 + 2 * one)
            assert budget.size < 4 * 70 * EVENTS
            assert service.ingest.facts()["refused"] < 8 * EVENTS  # of those that wait nothing is encoded yet
            assert (await service.post([metric(1)])).status == 202
            await until_async(lambda: service.ingest.facts()["sockets"] == 0)
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == budget.size == 0)
            deaf.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_posts_that_are_never_read_hold_what_is_counted_until_they_are_cut(config: Config) -> None:
    most = 4_000_000

    async def main() -> None:
        async with serving(config.replace(WEIR_HTTP_WRITE=3_000, WEIR_INGEST_IN_FLIGHT=most), METRICS) as service:
            deaf = [await sends(service, HEAD % len(BODY) + BODY) for _ in range(30)]
            await until_async(lambda: service.ingest.facts()["refused"] >= EVENTS)
            assert service.ingest.facts()["in_flight_bytes"] <= most
            assert (await service.post([metric(1)])).status == 202
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == service.app[ANSWERS].size == 0)
            for client in deaf:
                client.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_where_others_hold_the_room_for_answers_a_long_one_is_not_told_and_small_ones_are(config: Config) -> None:
    some = config.replace(WEIR_HTTP_WRITE=300)

    async def main() -> None:
        async with serving(some, METRICS) as service:
            socket = await service.session.ws_connect(f"http://127.0.0.1:{service.port}{METRICS.websocket}")
            with service.app[ANSWERS].held_for("10.0.0.7", some.http.answers):
                said = await service.post(BODY)
                assert (said.status, said.body) == (503, {"error": {"reason": UNTOLD}})
                for message, status in ((BODY, 503), (b"{}", 400)):
                    await socket.send_bytes(message)
                    assert (await socket.receive_json(timeout=PATIENCE_S))["status"] == status
            assert (await service.post(BODY)).status == 400
            await socket.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_bodies_that_do_not_come_whole_keep_their_own_address_out_and_no_other(config: Config) -> None:
    some = config.replace(
        WEIR_INGEST_IN_FLIGHT=400_000, WEIR_HTTP_PER_ADDRESS=1_000
    )  # a quarter, from loopback as well

    async def main() -> None:
        async with serving(some, METRICS) as service:
            half = await sends(service, HEAD % 300_000 + bytes(99_990))
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == 99_990)
            refused = await service.post([metric(1)])
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
            assert "from this address" in refused.body["error"]["reason"]
            async with (
                ClientSession(connector=TCPConnector(local_addr=("127.0.0.2", 0))) as session,
                session.post(service.url, json=[metric(1)]) as response,
            ):
                assert response.status == 202
            half.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_long_answer_comes_in_pieces_and_is_whole(config: Config) -> None:
    async def main() -> None:
        async with serving(config, METRICS) as service:
            said = await service.post(BODY)
            assert (said.status, said.headers["Transfer-Encoding"]) == (400, "chunked")
            assert (said.body["refused"], len(said.body["events"])) == (EVENTS, EVENTS)
            assert [event["index"] for event in said.body["events"]] == list(range(EVENTS))
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == 0)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_who_sends_more_than_there_is_room_for_gets_429_and_room_again(config: Config) -> None:
    async def main() -> None:
        async with serving(config.replace(WEIR_INGEST_IN_FLIGHT=400_000), METRICS) as service:
            deaf = await sends(service, HEAD % len(BODY) + BODY)
            await until_async(lambda: service.ingest.facts()["refused"] == EVENTS)
            refused = await service.post(BODY)
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
            assert refused.body["error"]["reason"] == "too many bytes are in flight; retry later"
            deaf.close()
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == 0)
            assert (await service.post(BODY)).status == 400

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
