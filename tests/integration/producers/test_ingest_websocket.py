"""Events over a WebSocket: answers in order, bad messages, pages that may not write, a service that stops."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from support.http.ingest_service import Service, elements, metric, serving
from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.producers.ingest import websocket as ingest_websocket
from weir.producers.ingest.server import METRICS


async def connected(service: Service, **headers: str) -> ClientWebSocketResponse:
    url = f"ws://127.0.0.1:{service.port}/ws/metric-events"
    return await service.session.ws_connect(url, headers=headers, max_msg_size=0)


def users(config: Config) -> list[str]:
    return sorted(e.user_id for e in elements(config, METRICS))


def test_each_message_is_answered_in_order(config: Config) -> None:
    async def main() -> list[Any]:
        async with serving(config, METRICS) as service:
            socket = await connected(service)
            await until_async(lambda: service.ingest.facts()["sockets"] == 1)
            await socket.send_json(metric(1))
            await socket.send_str("hello")
            await socket.send_bytes(msgspec.json.encode([metric(2), {}, metric(3, more=1)]))
            await socket.send_str("")
            await socket.send_str("[]")
            said = [await socket.receive_json(timeout=PATIENCE_S) for _ in range(5)]
            await socket.close()
            await until_async(lambda: service.ingest.facts()["sockets"] == 0)
            return said

    one, no_json, three, *empty = asyncio.run(main())
    assert one == {
        "status": 202, "accepted": 1, "duplicates": 0, "refused": 0, "unknown": 0, "ignored_fields": 0,
        "events": [{"index": 0, "status": "accepted"}],
    }  # fmt: skip
    assert no_json == {"status": 400, "error": {"reason": "JSON is malformed: invalid character (byte 0)"}}
    assert (three["status"], three["accepted"], three["refused"], three["ignored_fields"]) == (400, 2, 1, 1)
    assert three["events"][1] == {"index": 1, "status": "refused", "field": "timestamp", "reason": "is missing"}
    assert [(said["status"], said["error"]["reason"]) for said in empty] == [
        (400, "the body is empty"), (400, "the list is empty"),
    ]  # fmt: skip
    assert users(config) == ["u-1", "u-2", "u-3"]


def test_far_more_messages_than_wait_at_a_time_are_all_answered(config: Config) -> None:
    async def main() -> None:
        async with serving(config.replace(WEIR_INGEST_IN_FLIGHT=20_000), METRICS) as service:
            sockets = [await connected(service) for _ in range(3)]

            async def send(socket: ClientWebSocketResponse, first: int) -> None:
                for n in range(500):
                    await socket.send_json([metric(first + n)] * 10)

            async def listen(socket: ClientWebSocketResponse) -> None:
                for _ in range(500):
                    assert (await socket.receive_json(timeout=PATIENCE_S))["accepted"] == 10

            async with asyncio.timeout(PATIENCE_S):
                work = [f for n, s in enumerate(sockets) for f in (send(s, n * 500), listen(s))]
                await asyncio.gather(*work)
            for socket in sockets:
                await socket.close()

    asyncio.run(main())
    assert users(config) == sorted(10 * [f"u-{n}" for n in range(1_500)])


def test_a_message_that_is_too_long_ends_its_connection_alone(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_websocket, "MAX_MESSAGE", 1_000)

    async def main() -> None:
        async with serving(config, METRICS) as service:
            long, other = await connected(service), await connected(service)
            await long.send_json(metric(1))
            assert (await long.receive_json(timeout=PATIENCE_S))["status"] == 202
            await long.send_json(metric(2, note="x" * 1_000))
            assert (await long.receive(20)).type is WSMsgType.CLOSE
            assert long.close_code == 1009
            await other.send_json(metric(3))
            assert (await other.receive_json(timeout=PATIENCE_S))["status"] == 202
            await other.close()

    asyncio.run(main())
    assert users(config) == ["u-1", "u-3"]


def test_who_may_not_or_cannot_connect_is_told_why(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_websocket, "MAX_SOCKETS", 1)

    async def main() -> None:
        async with serving(config, METRICS) as service:
            async with service.session.get(f"http://127.0.0.1:{service.port}/ws/metric-events") as response:
                assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
            with pytest.raises(WSServerHandshakeError) as caught:
                await connected(service, Origin="https://elsewhere.example")
            assert caught.value.status == 403
            first = await connected(service, Origin=f"http://127.0.0.1:{service.port}")
            with pytest.raises(WSServerHandshakeError) as caught:
                await connected(service)
            assert caught.value.status == 503
            await first.close()

    asyncio.run(main())


def test_who_leaves_without_a_word_leaves_nothing_behind(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(config, METRICS) as service:
            socket = await connected(service)
            for n in range(200):
                await socket.send_json(metric(n))
            await until_async(lambda: service.ingest.facts()["accepted"] > 0)
            response = socket._response
            assert response.connection is not None
            assert response.connection.transport is not None
            response.connection.transport.abort()
            await until_async(
                lambda: service.ingest.facts()["sockets"] == service.ingest.facts()["in_flight_bytes"] == 0
            )
            assert len(users(config)) == service.ingest.facts()["accepted"]

    asyncio.run(main())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_service_that_stops_answers_what_it_read_and_says_goodbye(config: Config) -> None:
    answered = [0, 0, 0]

    async def main() -> None:
        async with serving(config, METRICS) as service:

            async def keep_sending(socket: ClientWebSocketResponse, first: int) -> None:
                n = first
                while not socket.closed:
                    await socket.send_json(metric(n))
                    n += 1
                    await asyncio.sleep(0)  # it would fill all buffers before the service has its turn

            async def listen(number: int, socket: ClientWebSocketResponse) -> None:
                async for message in socket:
                    said = message.json()
                    assert said["status"] in (202, 503)
                    answered[number] += said.get("accepted", 0)
                assert socket.close_code == 1001

            sockets = [await connected(service) for _ in range(3)]
            listening = [asyncio.create_task(listen(n, socket)) for n, socket in enumerate(sockets)]
            sending = [asyncio.create_task(keep_sending(s, n * 1_000_000)) for n, s in enumerate(sockets)]
            await until_async(lambda: all(n > 500 for n in answered))
            async with asyncio.timeout(5):
                await service.ingest.close()
            await asyncio.gather(*listening)
            await asyncio.gather(*sending, return_exceptions=True)

    asyncio.run(main())
    found = users(config)
    assert len(found) == sum(answered)
    for n in range(3):
        mine = {int(user[2:]) - n * 1_000_000 for user in found if n * 1_000_000 <= int(user[2:]) < (n + 1) * 1_000_000}
        assert mine == set(range(answered[n]))
