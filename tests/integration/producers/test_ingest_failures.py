"""The endpoints when something ends: Kafka, or they themselves in the middle of their work."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientError

from support.http.ingest_service import Service, elements, event, serving
from support.servers.own_servers import OwnServer
from support.wait import until_async
from weir.infra.config import Config
from weir.producers.ingest.server import MONITORING


@pytest.mark.long
def test_while_kafka_is_away_it_is_unknown_what_becomes_and_a_retry_is_safe(
    kafka_of_its_own: tuple[Config, OwnServer],
) -> None:
    config, server = kafka_of_its_own
    config = config.replace(WEIR_INGEST_IN_FLIGHT=40_000)
    server.stop()
    batch = [event(n) for n in range(2, 20)]

    async def main() -> None:
        async with serving(config, MONITORING, waits=True) as service:
            early = await service.post(event(1))
            assert (early.status, early.headers["Retry-After"]) == (503, "1")
            assert (service.ingest.state, early.body["error"]["reason"]) == (
                "starting",
                "the service is starting or stopping; retry later",
            )
            server.start()  # from this thread: it ends with the thread that starts it
            await until_async(lambda: service.ingest.state == "running")
            assert (await service.post(event(1))).status == 202

            server.kill()
            waiting = asyncio.create_task(service.post([*batch, event(1), event(2), event(3, event_key="")]))
            await until_async(lambda: service.ingest.state == "waiting")
            full = await service.post(event(30, note="x" * 40_000))
            assert (full.status, full.body["error"]["reason"]) == (503, "Kafka does not answer; retry later")
            said = await waiting
            assert (said.status, said.headers["Retry-After"]) == (503, "1")
            assert said.verdicts == ["unknown"] * 18 + ["duplicate", "unknown", "refused"]
            assert all(e["reason"].startswith("Kafka does not answer") for e in said.body["events"][:18])
            assert service.ingest.facts()["unknown"] == 19
            assert service.ingest.facts()["in_flight_bytes"] == 0
            assert service.ingest.state == "waiting"

            server.start()
            await until_async(
                lambda: service.ingest.state == "running"
            )  # it notices though nobody asks it for anything
            again = await service.post(batch)
            assert (again.status, again.verdicts) == (202, ["accepted"] * 18)

    asyncio.run(asyncio.wait_for(main(), 150))
    found = [e.event_id for e in elements(config, MONITORING)]
    assert set(found) == {f"e-{n}" for n in range(1, 20)}
    assert found.count("e-1") == 1


@pytest.mark.long
def test_it_ends_in_time_though_kafka_is_away_and_answers_everyone(kafka_of_its_own: tuple[Config, OwnServer]) -> None:
    config, server = kafka_of_its_own

    async def main() -> None:
        async with serving(config, MONITORING) as service:
            assert (await service.post(event(1))).status == 202
            server.kill()
            waiting = asyncio.create_task(service.post([event(2), event(3, event_id="")]))
            await until_async(lambda: service.ingest.facts()["in_flight_bytes"] > 0)
            async with asyncio.timeout(5):
                await service.ingest.close()
            said = await waiting
            assert (said.status, said.verdicts) == (503, ["unknown", "refused"])
            assert said.body["events"][0]["reason"] == "this service stopped before Kafka answered"

    asyncio.run(asyncio.wait_for(main(), 120))


async def keep_posting(service: Service, client: int, sent: dict[str, int]) -> None:
    """Posts arrays of new events until the service has gone, and keeps the status of each event's request."""
    for first in range(client * 1_000_000, (client + 1) * 1_000_000, 100):
        numbers = range(first, first + 100)
        try:
            said = await service.post([event(n) for n in numbers])
        except ClientError:
            return
        sent.update({f"e-{n}": said.status for n in numbers})
        if said.status == 503 and "error" in said.body:
            return


def test_a_service_that_stops_under_load_loses_nothing_that_it_accepted(config: Config) -> None:
    sent: dict[str, int] = {}

    async def main() -> None:
        async with serving(config, MONITORING) as service:
            posting = [asyncio.create_task(keep_posting(service, n, sent)) for n in range(8)]
            half_sent = await asyncio.open_connection("127.0.0.1", service.port)
            head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n["
            half_sent[1].write(head)
            await until_async(lambda: len(sent) > 10_000)
            async with asyncio.timeout(5):
                await service.ingest.close()
            await asyncio.gather(*posting)
            assert (await half_sent[0].readline()).split()[1] == b"503"
            half_sent[1].close()
            assert service.ingest.facts()["in_flight_bytes"] == 0
            assert (await service.post(event(1))).status == 503

    asyncio.run(asyncio.wait_for(main(), 90))
    found = [e.event_id for e in elements(config, MONITORING)]
    assert len(found) == len(set(found))
    assert set(found) == {id_ for id_, status in sent.items() if status == 202}
