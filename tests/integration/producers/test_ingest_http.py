"""Events posted, and a real Kafka: what is answered, what is in the topic, and what is said to whom posts badly."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import msgspec
import pytest

from support.http.ingest_service import Said, elements, event, metric, serving
from support.wait import PATIENCE_S, until_async
from weir.infra.config import Config
from weir.producers.ingest import routes as ingest_http
from weir.producers.ingest.server import METRICS, MONITORING
from weir.schemas.monitoring import EventType, MonitoringEvent

NOW = 1_769_860_800_123


def clock() -> int:
    return NOW


class Raw:
    """A connection that a test writes to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Raw:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def post(self, *headers: str) -> None:
        """A request's beginning."""
        lines = ["POST /events HTTP/1.1", "Host: x", "Content-Type: application/json", *headers, "", ""]
        await self.write("\r\n".join(lines).encode())

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer."""
        async with asyncio.timeout(PATIENCE_S):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines if line)

    async def answer(self) -> Said:
        status, headers = await self.head()
        body = await self._reader.readexactly(int(headers["Content-Length"]))
        return Said(status, headers, json.loads(body))

    def close(self) -> None:
        self._writer.transport.abort()


def test_an_event_is_in_the_topic_as_it_came_when_it_was_taken_in(config: Config) -> None:
    raws = [b'{"event_id":"e-%d","client_id":"c", "event_timestamp":1,"event_type":"TIME-SERIES","event_key":"k",'
            b'"event_value":{"b":1e2, "a":"\\u00e4"},"more":0}' % n for n in range(3)]  # fmt: skip

    async def main() -> None:
        async with serving(config, MONITORING, clock=clock) as service:
            said = await service.post(b" [" + b" ,\n".join(raws[:2]) + b"] ")
            assert (said.status, said.body["accepted"], said.body["ignored_fields"]) == (202, 2, 2)
            assert said.body["events"] == [{"event_id": f"e-{n}", "status": "accepted"} for n in range(2)]
            assert (await service.post(raws[2])).status == 202
            found = {record.key(): record for record in service.records()}
            assert {key: record.value() for key, record in found.items()} == {
                b"e-%d" % n: raw for n, raw in enumerate(raws)
            }
            assert {record.timestamp()[1] for record in found.values()} == {NOW}
            assert service.ingest.facts() == {
                "accepted": 3, "duplicates": 0, "refused": 0, "unknown": 0, "ignored_fields": 3, "in_flight_bytes": 0,
                "sockets": 0,
            }  # fmt: skip

    asyncio.run(main())


def test_metrics_of_one_request_share_records_without_a_key(config: Config) -> None:
    events = [metric(n, event_type="t" * 100) for n in range(2_000)]

    async def main() -> None:
        async with serving(config, METRICS, clock=clock) as service:
            said = await service.post([*events, metric(0, value=None)])
            assert said.status == 400
            assert said.body["events"] == [
                *({"index": n, "status": "accepted"} for n in range(2_000)),
                {"index": 2_000, "status": "refused", "field": "value", "reason": "expected `float`, got `null`"},
            ]
            found = service.records()
            assert len(found) <= 16
            assert all(len(record.value() or b"") <= 64 << 10 for record in found)
            assert {(record.key(), record.timestamp()[1]) for record in found} == {(None, NOW)}
            assert (await service.post(events[0])).status == 202

    asyncio.run(main())
    found = sorted(msgspec.to_builtins(element)["user_id"] for element in elements(config, METRICS))
    assert found == sorted([*(e["user_id"] for e in events), events[0]["user_id"]])


def test_the_valid_rest_is_accepted_and_what_kafka_has_is_a_duplicate(config: Config) -> None:
    def check(event: MonitoringEvent) -> None:
        if event.event_type is EventType.TIME_SERIES:
            raise ValueError("`event_type` is TIME-SERIES, but the client's key is CUMULATIVE")

    async def main() -> None:
        async with serving(config, MONITORING, check, clock) as service:
            assert (await service.post([event(1), event(2)])).verdicts == ["accepted", "accepted"]
            lines = [event(2), event(3), {"event_id": "e-4"}, event(3), event(5, event_type="TIME-SERIES")]
            body = b"\n\n".join(map(msgspec.json.encode, lines)) + b'\n{"event_id"'
            said = await service.post(body, "application/x-ndjson; charset=UTF-8")
            assert said.status == 400
            assert said.verdicts == ["duplicate", "accepted", "refused", "duplicate", "refused", "refused"]
            assert [(e.get("field"), e["event_id"]) for e in said.body["events"] if e["status"] == "refused"] == [
                ("client_id", "e-4"), ("event_type", "e-5"), (None, None),
            ]  # fmt: skip
            assert {name: said.body[name] for name in ("accepted", "duplicates", "refused", "unknown")} == {
                "accepted": 1, "duplicates": 2, "refused": 3, "unknown": 0,
            }  # fmt: skip
            assert (await service.post([event(1), event(2), event(3)])).status == 202  # a retry

    asyncio.run(main())
    assert sorted(e.event_id for e in elements(config, MONITORING)) == ["e-1", "e-2", "e-3"]


def test_a_body_of_megabytes_is_taken_in_turns_with_others(config: Config) -> None:
    async def main() -> None:
        async with serving(config, MONITORING, clock=clock) as service:
            body = BytesIO(msgspec.json.encode([event(n, note="x" * 100) for n in range(12_000)]))
            large = asyncio.create_task(service.post(body))
            small = await service.post(event(-1))
            said = await large
            assert (small.status, said.status, said.body["accepted"]) == (202, 202, 12_000)

    asyncio.run(main())
    assert len(elements(config, MONITORING)) == 12_001


def with_one_bad(good: Callable[..., dict[str, Any]], first: int, field: str, bad: bytes) -> bytes:
    """A body of some 600 KB, of 4 000 events: all are good but for one, which has `bad` in that field."""
    events = [msgspec.json.encode(good(first + n, note="x" * 40)) for n in range(4_000)]
    before = b'"%b":%d' % (field.encode(), first + 2_000)
    assert before in events[2_000]
    events[2_000] = events[2_000].replace(before, b'"%b":%b' % (field.encode(), bad))
    return b"[" + b",".join(events) + b"]"


NUMBERS = {b"NaN": "NaN is not a JSON number", b"-Infinity": "-Infinity is not a JSON number", b"1e400": "1e"}


def test_one_bad_number_in_a_large_body_is_refused_alone(config: Config) -> None:
    async def main() -> None:
        for intake, good, field in ((MONITORING, event, "event_value"), (METRICS, metric, "value")):
            async with serving(config, intake, clock=clock) as service:
                for number, (bad, reason) in enumerate(NUMBERS.items()):
                    said = await service.post(BytesIO(with_one_bad(good, 10_000 * number, field, bad)))
                    assert (said.status, said.body["accepted"], said.body["refused"]) == (400, 3_999, 1)
                    refused = said.body["events"][2_000]
                    assert (refused["status"], refused["field"]) == ("refused", field)
                    assert reason in refused["reason"] or "out of range" in refused["reason"]

    asyncio.run(main())
    assert len(elements(config, MONITORING)) == len(elements(config, METRICS)) == 3 * 3_999


def test_a_value_of_a_megabyte_is_refused_with_its_field_or_with_413(config: Config) -> None:
    large = [event(n, event_type=k, event_value="1" * 1_000_000) for n, k in enumerate(("CUMULATIVE", "TIME-SERIES"))]

    async def main() -> None:
        async with serving(config, MONITORING, clock=clock) as service:
            said = await service.post(BytesIO(msgspec.json.encode([*large, event(2)])))
            assert (said.status, said.verdicts) == (400, ["refused", "refused", "accepted"])
            for n in range(2):
                assert said.body["events"][n] == {
                    "event_id": f"e-{n}", "status": "refused", "field": "event_value",
                    "reason": "has 1000002 bytes, more than 65536",
                }  # fmt: skip
        async with serving(config.replace(WEIR_INGEST_MAX_BODY=65_536), MONITORING, clock=clock) as service:
            said = await service.post(BytesIO(msgspec.json.encode(large[0])))
            assert (said.status, said.body) == (413, {"error": {"reason": "the body has more than 65536 bytes"}})

    asyncio.run(main())
    assert [e.event_id for e in elements(config, MONITORING)] == ["e-2"]


#: Times before 1970, and what is said of them.
BEFORE = [
    ("1969-12-31T23:59:59Z", "is before 1970"),
    ("1970-01-01T00:59:59+01:00", "is before 1970"),
    ("-0001-01-01T00:00:00Z", "is not an RFC 3339 time"),
    ("0000-01-01T00:00:00Z", "is not a valid time"),
    (-1, "is negative"),
    ("-1", "is not an RFC 3339 time"),
]


def test_a_time_before_1970_is_refused_in_every_form(config: Config) -> None:
    async def main() -> None:
        async with serving(config, METRICS, clock=clock) as service:
            said = await service.post([metric(n, timestamp=time) for n, (time, _) in enumerate(BEFORE)] + [metric(9)])
            assert (said.status, said.verdicts) == (400, ["refused"] * len(BEFORE) + ["accepted"])
            for told, (_, reason) in zip(said.body["events"], BEFORE, strict=False):
                assert (told["field"], reason in told["reason"]) == ("timestamp", True), told

    asyncio.run(main())
    assert len(elements(config, METRICS)) == 1


JSON, LINES = "application/json", "application/x-ndjson"
#: A body, its type, its encoding; the status, and what the reason says.
BAD = [
    (b"", JSON, "", 400, "the body is empty"),
    (b" \n", JSON, "", 400, "the body is empty"),
    (b"[]", JSON, "", 400, "the list is empty"),
    (b"\n \n", LINES, "", 400, "the body is empty"),
    (b"event_id=1", JSON, "", 400, "invalid character"),
    (b'[{"event_id":', JSON, "", 400, "truncated"),
    (b"[" * 50_000, JSON, "", 400, "nested too deeply"),
    (b"\xff\xfe[\x00]\x00", JSON, "", 400, "invalid character"),
    (b"{}", "text/plain", "", 415, "application/json or application/x-ndjson"),
    (b"{}", "application/x-www-form-urlencoded", "", 415, "application/json or application/x-ndjson"),
    (b"{}", "application/json; charset=latin-1", "", 415, "in UTF-8"),
    (gzip.compress(b"{}"), JSON, "gzip", 415, "must not be compressed"),
    (b"{}", JSON, "br", 415, "must not be compressed"),
    (b" " * 70_000, JSON, "identity", 413, "more than 65536 bytes"),
]


def test_what_cannot_be_used_is_answered_with_the_reason(config: Config) -> None:
    async def main() -> None:
        async with serving(config.replace(WEIR_INGEST_MAX_BODY=65_536), MONITORING, clock=clock) as service:
            for body, type_, encoding, status, reason in BAD:
                said = await service.post(body, type_, **({"Content-Encoding": encoding} if encoding else {}))
                assert (said.status, reason in said.body["error"]["reason"]) == (status, True), said
            for method in ("GET", "PUT", "DELETE", "OPTIONS"):
                async with service.session.request(method, service.url) as response:
                    assert (response.status, response.headers["Allow"]) == (405, "POST")
                    assert method in (await response.json())["error"]["reason"]
            garbage = await service.post(b"[" + b"{}," * 20_000 + b"{}]")
            assert (garbage.status, garbage.body["refused"]) == (400, 20_001)
            assert (await service.post(event(1))).status == 202
            assert service.ingest.facts()["in_flight_bytes"] == 0

    asyncio.run(main())
    assert len(elements(config, MONITORING)) == 1


def test_a_body_over_the_limit_is_refused_without_being_read(config: Config) -> None:
    async def main() -> None:
        async with serving(config.replace(WEIR_INGEST_MAX_BODY=65_536), MONITORING) as service:
            announced = await Raw.to(service.port)
            await announced.post("Content-Length: 65537")
            assert (await announced.head())[0] == 413
            asking = await Raw.to(service.port)
            await asking.post("Content-Length: 65537", "Expect: 100-continue")
            assert (await asking.head())[0] == 413
            endless = await Raw.to(service.port)
            await endless.post("Transfer-Encoding: chunked")
            answer = asyncio.create_task(endless.answer())
            while not answer.done():  # it is answered though it has no end
                await endless.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            said = await answer
            assert (said.status, said.body) == (413, {"error": {"reason": "the body has more than 65536 bytes"}})
            for client in (announced, asking, endless):
                client.close()

    asyncio.run(main())


def test_a_client_that_asks_before_it_sends_is_told_to(config: Config) -> None:
    body = msgspec.json.encode(event(1))

    async def main() -> None:
        async with serving(config, MONITORING) as service:
            client = await Raw.to(service.port)
            await client.post(f"Content-Length: {len(body)}", "Expect: 100-continue")
            assert (await client.head())[0] == 100
            await client.write(body)
            assert (await client.answer()).status == 202
            client.close()

    asyncio.run(main())


def test_a_body_that_does_not_come_is_waited_for_only_so_long(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_http, "BODY_TIMEOUT", 0.2)

    async def main() -> None:
        async with serving(config, MONITORING) as service:
            client = await Raw.to(service.port)
            await client.post("Content-Length: 1000")
            await client.write(b"[")
            said = await client.answer()
            assert said.status == 408
            assert "was not complete within 0.2 s" in said.body["error"]["reason"]
            client.close()
            assert service.ingest.facts()["in_flight_bytes"] == 0

    asyncio.run(main())


def test_who_leaves_in_the_middle_leaves_nothing_behind(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(config, MONITORING) as service:
            for ending in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
                client = await Raw.to(service.port)
                await client.post(ending)
                await client.write(b"10\r\n[" if "chunked" in ending else b"[")
                await until_async(lambda: service.ingest.facts()["in_flight_bytes"] > 0)
                client.close()
                await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == 0)
            assert not [record for record in caplog.records if record.levelname == "ERROR"]
            client = await Raw.to(service.port)
            await client.post("Transfer-Encoding: chunked")
            await client.write(b"no number\r\n")
            assert (await client.head())[0] == 400
            client.close()

    asyncio.run(main())


def test_who_does_not_wait_for_the_answer_has_sent_all_the_same(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    body = msgspec.json.encode([event(n) for n in range(100)])

    async def main() -> None:
        async with serving(config, MONITORING) as service:
            client = await Raw.to(service.port)
            await client.post(f"Content-Length: {len(body)}")
            await client.write(body)
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] > 0)
            client.close()
            await until_async(lambda: service.ingest.facts()["accepted"] == 100)
            assert service.ingest.facts()["in_flight_bytes"] == 0

    asyncio.run(main())
    assert len(elements(config, MONITORING)) == 100
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_while_too_much_waits_others_are_told_to_come_again(config: Config) -> None:
    body = msgspec.json.encode(event(1, note="x" * 3_000))

    async def main() -> None:
        async with serving(config.replace(WEIR_INGEST_IN_FLIGHT=4_000), MONITORING) as service:
            slow = await Raw.to(service.port)
            await slow.post(f"Content-Length: {len(body)}")
            await slow.write(body[:-1])
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] == len(body) - 1)

            async def chunks() -> AsyncIterator[bytes]:
                yield body

            for refused in (body, chunks()):  # one says how long it is, the other does not
                said = await service.post(refused)
                assert (said.status, said.headers["Retry-After"]) == (429, "1")
                assert said.body == {"error": {"reason": "too many bytes are in flight; retry later"}}
            assert (await service.post(event(2))).status == 202
            await slow.write(body[-1:])
            assert (await slow.answer()).status == 202
            assert (await service.post(event(3, note="x" * 5_000))).status == 202  # alone it has room
            slow.close()

    asyncio.run(main())
    assert len(elements(config, MONITORING)) == 3
