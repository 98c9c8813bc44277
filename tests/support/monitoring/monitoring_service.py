"""`weir run monitoring` as a service of a test's own, and records of its view as the jobs write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from confluent_kafka import Producer

from support.command import Running, started
from support.http.table_client import Answer, get, post
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.schemas.monitoring import ClientTotal, EventType, UniqueEvent
from weir.schemas.topics import MONITORING_SERIES, MONITORING_TOTALS

TOPICS = (MONITORING_TOTALS, MONITORING_SERIES)


def total(client: str, key: str, value: str, events: int = 1, time: int = 1_000) -> ClientTotal:
    return ClientTotal(client, key, msgspec.Raw(value.encode()), events, time)


def event(client: str, key: str, number: int, value: str = "1", time: int | None = None) -> UniqueEvent:
    at = number if time is None else time
    return UniqueEvent(client, f"e{number}", at, EventType.TIME_SERIES, key, msgspec.Raw(value.encode()))


def write(config: Config, *records: ClientTotal | UniqueEvent, producer: Producer | None = None) -> None:
    """Writes them as the jobs do: by key, in order."""
    sending = producer or clients.producer(config)
    for record in records:
        topic: Any = MONITORING_TOTALS if isinstance(record, ClientTotal) else MONITORING_SERIES
        sending.produce(config.topic(topic.name), msgspec.json.encode(record), topic.key_of(record))
        sending.poll(0)
    assert sending.flush(30) == 0


class Api:
    """Asks the service of one test."""

    def __init__(self, config: Config) -> None:
        self._address = f"http://127.0.0.1:{config.monitoring.port}"

    def get(self, path: str, **parameters: object) -> Answer:
        return get(self._address, path + ("?" + urlencode(parameters) if parameters else ""))

    def client(self, client_id: str, **parameters: object) -> Answer:
        return self.get("/clients/" + quote(client_id, safe=""), **parameters)

    def data(self, client_id: str) -> Any:
        answer = self.client(client_id, limit=10_000)
        return answer.body.get("data")

    def ids(self, client_id: str, key: str) -> list[str]:
        found = self.data(client_id) or {}
        return [event["event_id"] for event in found.get(key, {"events": []})["events"]]

    def pages(self, path: str, **parameters: object) -> Iterator[Any]:
        """Page after page."""
        while True:
            answer = self.get(path, **parameters)
            assert answer.status == 200, answer
            yield answer.body
            if "next" not in answer.body:
                assert "Link" not in answer.headers
                return
            assert f"cursor={answer.body['next']}" in answer.headers["Link"]
            parameters["cursor"] = answer.body["next"]

    def post(self, *events: dict[str, Any]) -> Answer:
        return post(self._address, "/events", events)

    def is_healthy(self) -> bool:
        return self.get("/health").status == 200


@contextmanager
def monitoring(environ: dict[str, str], config: Config) -> Iterator[tuple[Api, Running]]:
    """The service, past its start."""
    with started(environ, "run", "monitoring") as service:
        service.wait_for_error_line(b"monitoring.running")
        api = Api(config)
        until(api.is_healthy)
        yield api, service
