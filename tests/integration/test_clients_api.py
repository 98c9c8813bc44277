"""What is known of monitored clients over HTTP: `weir run monitoring`, its view in memory, and what befalls both."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from command import Running, started, weir
from infra import config as configuration
from infra import kafka as clients
from infra.config import Config
from infra.ports import free_ports
from infra.servers.kafka import KafkaServer
from infra.status import read_all
from own_servers import own
from schemas.monitoring import ClientTotal, EventType, UniqueEvent
from schemas.topics import MONITORING_SERIES, MONITORING_TOTALS
from table_client import Answer, get
from workers import wait_until

NOON = 1_769_860_800_000  # 2026-01-31T12:00:00Z
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
        self._address = f"http://127.0.0.1:{config.monitoring_port}"

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
        connection = http.client.HTTPConnection(self._address.removeprefix("http://"), timeout=30)
        try:
            connection.request("POST", "/events", json.dumps(events), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()), dict(response.getheaders()))
        finally:
            connection.close()

    def is_healthy(self) -> bool:
        return self.get("/health").status == 200


def until(done: Callable[[], bool]) -> None:
    wait_until(done, 60)


@contextmanager
def monitoring(environ: dict[str, str], config: Config) -> Iterator[tuple[Api, Running]]:
    """The service, past its start."""
    with started(environ, "run", "monitoring") as service:
        service.wait_for_error_line(b"monitoring.running")
        api = Api(config)
        until(api.is_healthy)
        yield api, service


@pytest.fixture
def made(config: Config) -> Config:
    """The configuration, with the view's topics made."""
    clients.ensure_topics(config, TOPICS)
    return config


def ended(service: Running) -> float:
    """Seconds that the service took to end after SIGTERM, in order."""
    begun = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0, service.err
    return time.monotonic() - begun


def test_a_client_is_dumped_grouped_by_key_and_again_after_a_restart(environ: dict[str, str], made: Config) -> None:
    write(made, total("a", "requests", "11.5", 2), event("a", "cpu", 7, "[0.1]", 2_000), event("a", "cpu", 8, '"x"'))
    expected = {
        "client_id": "a",
        "lag": {"records": 0, "ms": 0},
        "data": {
            "cpu": {
                "event_type": "TIME-SERIES",
                "events": [
                    {"event_id": "e8", "event_timestamp": 8, "event_value": "x"},
                    {"event_id": "e7", "event_timestamp": 2000, "event_value": [0.1]},
                ],
            },
            "requests": {"event_type": "CUMULATIVE", "event_value": 12, "events": 3, "event_timestamp": 3_000},
        },
    }
    with monitoring(environ, made) as (api, service):
        assert api.data("a")["requests"]["event_value"] == 11.5
        write(made, total("a", "requests", "12", 3, 3_000))
        until(lambda: api.client("a").body == expected)
        assert ended(service) < 5
    with monitoring(environ, made) as (api, _):
        answer = api.client("a")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.body == expected


def test_ids_of_any_printable_characters_can_be_asked_for(environ: dict[str, str], made: Config) -> None:
    names = ["a/b", "..", ".", "%2F", "ü €", 'q"?#&=+', "100%", "x" * 128]
    write(made, *(total(name, name, "1") for name in names))
    with monitoring(environ, made) as (api, _):
        for name in names:
            answer = api.client(name, key=name)
            assert (answer.status, answer.body["client_id"]) == (200, name)
            assert answer.body["data"].keys() == {name}
        listed = api.get("/clients").body
        assert listed["clients"] == [{"client_id": name, "keys": 1} for name in sorted(names)]


def test_a_sum_may_be_larger_than_any_number_that_is_added(environ: dict[str, str], made: Config) -> None:
    large = "1" + "0" * 120
    write(made, total("c-1", "requests", large))
    with monitoring(environ, made) as (api, service):
        until(lambda: api.data("c-1") is not None)
        assert api.data("c-1")["requests"]["event_value"] == int(large)
        assert service.process.poll() is None


def test_pages_of_clients_and_of_a_long_series_lose_and_repeat_nothing(environ: dict[str, str], made: Config) -> None:
    write(made, *(event(f"c{n:02}", "cpu", n) for n in range(25)),
          *(event("long", "cpu", n, time=NOON + n) for n in range(2_500)))  # fmt: skip
    with monitoring(environ, made) as (api, _):
        pages = list(api.pages("/clients", limit=10))
        assert [client["client_id"] for page in pages for client in page["clients"]] == [
            *(f"c{n:02}" for n in range(25)), "long",
        ]  # fmt: skip
        found = []
        asked = {"from": NOON + 100, "to": "2026-01-31T12:00:02.400Z", "limit": 400}
        for page in api.pages("/clients/long", **asked):
            found += [event["event_timestamp"] for event in page["data"]["cpu"]["events"]]
            # What comes meanwhile: before where the reading is, and keys of before and after.
            more = 10_000 + len(found)
            write(made, event("long", "cpu", more, time=NOON + 150), event("long", "aaa", 1), event("long", "zzz", 1))
            until(lambda: f"e{more}" in api.ids("long", "cpu"))  # noqa: B023
        assert found == list(range(NOON + 100, NOON + 2_400))


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/clients/a?from=yesterday", "from"),
        ("/clients/a?to=-1", "to"),
        ("/clients/a?from=20&to=10", "from"),
        ("/clients/a?limit=0", "limit"),
        ("/clients/a?limit=10001", "limit"),
        ("/clients/a?limit=1&limit=2", "limit"),
        ("/clients/a?cursor=abc", "cursor"),
        ("/clients/a?cursor=%C3%BC", "cursor"),
        ("/clients/a?cursor=W10", "cursor"),
        ("/clients/a?key=", "key"),
        ("/clients/a?since=1", "since"),
        ("/clients/a/b", "client_id"),
        ("/clients/%FF", "client_id"),
        ("/clients/%00", "client_id"),
        ("/clients/", "client_id"),
        (f"/clients/{'x' * 129}", "client_id"),
        ("/clients?from=1", "from"),
        ("/clients?cursor=W10", "cursor"),
    ],
)
def test_what_cannot_be_asked_is_a_400_with_the_field_and_the_reason(running: Api, path: str, field: str) -> None:
    answer = running.get(path)
    assert answer.status == 400
    assert answer.body["error"]["field"] == field
    assert answer.body["error"]["reason"]


@pytest.fixture(scope="module")
def running(servers: Config, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service for all that only asks."""
    [port] = free_ports(1)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environ = inherited | {
        "WEIR_HOME": str(tmp_path_factory.mktemp("monitoring")),
        "WEIR_KAFKA": kafka,
        "WEIR_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-",
        "WEIR_MONITORING_PORT": str(port),
    }
    with monitoring(environ, configuration.load(environ)) as (api, _):
        yield api


def test_a_client_that_nobody_heard_of_is_a_404_and_an_unknown_path_too(running: Api) -> None:
    answer = running.client("nobody")
    assert (answer.status, answer.body["lag"]) == (404, {"records": 0, "ms": 0})
    assert running.get("/clients").body == {"lag": {"records": 0, "ms": 0}, "clients": []}


def test_a_running_service_forgets_what_a_reset_has_deleted(environ: dict[str, str], made: Config) -> None:
    write(made, total("a", "requests", "1"), *(event("a", "cpu", n) for n in range(10)), event("gone", "cpu", 1))
    with monitoring(environ, made) as (api, service):
        assert len(api.ids("a", "cpu")) == 10
        done = weir(environ, "reset", "monitoring", "--yes", "--yes")
        assert (done.returncode, done.stderr) == (0, b"")
        write(made, *(event("a", "cpu", n) for n in range(3)))  # recounted, at other offsets
        service.wait_for_error_line(b"view.begins_anew")
        until(lambda: api.ids("a", "cpu") == ["e0", "e1", "e2"])
        assert api.data("a").keys() == {"cpu"}
        assert api.client("gone").status == 404
        write(made, total("a", "requests", "7"))
        until(lambda: "requests" in api.data("a"))
        assert service.err.count(b"view.begins_anew") <= 2  # one topic is emptied after the other


def test_what_is_written_in_a_transaction_is_seen_once_it_is_committed(environ: dict[str, str], made: Config) -> None:
    producer = clients.producer(made, **{"transactional.id": made.topic("test")})
    producer.init_transactions(30)
    with monitoring(environ, made) as (api, service):
        producer.begin_transaction()
        write(made, event("a", "cpu", 1), producer=producer)
        assert api.client("a").status == 404
        producer.commit_transaction(30)
        until(lambda: api.ids("a", "cpu") == ["e1"])
        producer.begin_transaction()
        write(made, event("a", "cpu", 2), producer=producer)
        until(lambda: api.client("a").body["lag"] == {"records": 0, "ms": 0})
        producer.abort_transaction(30)
        write(made, event("b", "cpu", 3))
        until(lambda: api.ids("b", "cpu") == ["e3"])
        until(lambda: api.client("a").body["lag"] == {"records": 0, "ms": 0})
        assert api.ids("a", "cpu") == ["e1"]
        assert not any(b"view.begins_anew" in line for line in service.err)


def test_a_record_that_no_job_writes_is_left_out_and_told(environ: dict[str, str], made: Config) -> None:
    producer = clients.producer(made)
    good = msgspec.json.encode(event("a", "cpu", 1))
    for topic, value in (
        *((MONITORING_SERIES, bad) for bad in (b"", None, b"{", b"\xff", good.replace(b"TIME-SERIES", b"CUMULATIVE"))),
        (MONITORING_SERIES, good.replace(b'"event_timestamp":1', b'"event_timestamp":-1')),
        (MONITORING_SERIES, good.replace(b'"event_timestamp":1', b'"event_timestamp":99999999999999999999')),
        (MONITORING_TOTALS, msgspec.json.encode(total("a", "sum", "NaN"))),
        (MONITORING_TOTALS, msgspec.json.encode(total("a", "sum", "1", 0))),
        (MONITORING_SERIES, good),
    ):
        producer.produce(made.topic(topic.name), value, b"key")
    assert producer.flush(30) == 0
    with monitoring(environ, made) as (api, service):
        assert api.ids("a", "cpu") == ["e1"]
        assert api.get("/health").body["clients"]["unreadable"] == 9
        assert any(b"view.unreadable" in line for line in service.err)


def test_memory_is_bounded_and_a_key_says_what_is_gone(environ: dict[str, str], made: Config) -> None:
    write(made, total("a", "requests", "1"), *(event("a", "cpu", n, time=NOON + n) for n in range(3_000)))
    with monitoring(environ | {"WEIR_MONITORING_SERIES_MEMORY": "32768"}, made) as (api, _):
        data = api.data("a")
        gone = data["cpu"]["truncated"]
        assert gone["until"] == NOON + gone["events"] - 1
        assert api.ids("a", "cpu") == [f"e{n}" for n in range(gone["events"], 3_000)]
        assert data["requests"]["event_value"] == 1
        facts = api.get("/health").body["clients"]
        assert (facts["dropped"], facts["events"]) == (gone["events"], 3_000 - gone["events"])


def test_an_event_of_the_other_kind_is_refused_as_soon_as_the_view_knows(environ: dict[str, str], made: Config) -> None:
    write(made, total("a", "k", "1"))
    sent = {"client_id": "a", "event_id": "e1", "event_timestamp": NOON, "event_key": "k", "event_value": 1}
    with monitoring(environ, made) as (api, _):
        assert api.post(sent | {"event_type": "CUMULATIVE"}).status == 202
        answer = api.post(sent | {"event_type": "TIME-SERIES", "event_id": "e2"})
        assert answer.status == 400
        [verdict] = answer.body["events"]
        assert (verdict["status"], verdict["field"]) == ("refused", "event_type")
        assert "CUMULATIVE" in verdict["reason"]


def test_a_topic_that_is_made_again_or_gets_more_partitions_is_noticed(environ: dict[str, str], made: Config) -> None:
    series = made.topic(MONITORING_SERIES.name)
    admin = clients.admin(made)
    write(made, total("a", "sum", "1"), *(event(f"c{n}", "cpu", n) for n in range(50)))
    with monitoring(environ, made) as (api, service):
        assert len(api.get("/clients").body["clients"]) == 51
        admin.create_partitions([NewPartitions(series, 6)])[series].result()
        producer = clients.producer(made)
        for partition in (4, 5):
            value = msgspec.json.encode(event("new", "cpu", partition))
            until(lambda: topic_has(made, series, 6))
            producer.produce(series, value, partition=partition)
        assert producer.flush(30) == 0
        until(lambda: api.ids("new", "cpu") == ["e4", "e5"])
        assert len(api.get("/clients").body["clients"]) == 52
        admin.delete_topics([series])[series].result()
        until(lambda: not topic_has(made, series, 6))
        clients.ensure_topics(made, TOPICS)
        write(made, *(event(f"d{n}", "cpu", n) for n in range(100)))
        until(lambda: any(b"view.begins_anew" in line for line in service.err))
        until(lambda: len(api.get("/clients").body.get("clients", ())) == 101)
        assert api.data("a")["sum"]["event_value"] == 1
        assert api.client("c1").status == 404


def topic_has(config: Config, name: str, partitions: int) -> bool:
    found = clients.admin(config).list_topics(timeout=10).topics.get(name)
    return found is not None and len(found.partitions) == partitions


def test_records_that_are_deleted_before_they_were_read_are_told(environ: dict[str, str], made: Config) -> None:
    """A service that stood still while retention went past where it was."""
    series = made.topic(MONITORING_SERIES.name)
    write(made, *(event("a", "cpu", n) for n in range(10)))
    with monitoring(environ, made) as (api, service):
        service.process.send_signal(signal.SIGSTOP)
        write(made, *(event("a", "cpu", n, json.dumps("x" * 10_000)) for n in range(10, 5_000)))
        ends = {p: clients.consumer(made).get_watermark_offsets(TopicPartition(series, p))[1] for p in range(4)}
        trim = [TopicPartition(series, p, end) for p, end in ends.items()]
        admin = clients.admin(made)
        for future in admin.delete_records(trim).values():
            future.result()
        write(made, event("a", "cpu", 9_999))
        service.process.send_signal(signal.SIGCONT)
        until(lambda: "e9999" in api.ids("a", "cpu"))
        until(api.is_healthy)
        facts = api.get("/health").body["clients"]
        assert facts["deleted"] > 0
        assert facts["events"] + facts["deleted"] == 5_001
        assert facts["read"] == facts["events"]


@pytest.mark.long
def test_it_starts_before_kafka_and_answers_from_memory_while_that_is_away(environ: dict[str, str]) -> None:
    port, controller = free_ports(2)
    mine = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"}
    mine |= {"WEIR_KAFKA_PORT": str(port), "WEIR_KAFKA_CONTROLLER_PORT": str(controller)}
    config = configuration.load(mine)
    with started(mine, "run", "monitoring") as service:
        service.wait_for_error_line(b"monitoring.running")
        api = Api(config)
        for path in ("/clients", "/clients/a", "/health"):
            answer = api.get(path)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.body["lag"] == {"records": None, "ms": None}
        with own(KafkaServer(config)) as server:
            until(api.is_healthy)
            write(config, event("a", "cpu", 1))
            until(lambda: api.ids("a", "cpu") == ["e1"])
            server.kill()
            until(lambda: api.get("/health").status == 503)
            answer = api.get("/health")
            assert (answer.body["status"], answer.headers["Retry-After"]) == ("waiting", "1")
            assert api.ids("a", "cpu") == ["e1"]
            assert api.client("a").body["lag"]["ms"] > 0
            assert api.client("b").status == 404
            until(lambda: [s.state for s in read_all(config) if s.name == "monitoring"] == ["waiting"])
            server.start()
            write(config, event("a", "cpu", 2))
            until(lambda: api.ids("a", "cpu") == ["e1", "e2"])
            until(api.is_healthy)
            assert not any(b"view.begins_anew" in line for line in service.err)
            server.kill()
            until(lambda: api.get("/health").status == 503)
            assert ended(service) < 5
            assert [s for s in read_all(config) if s.name == "monitoring"] == []


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(environ: dict[str, str], made: Config) -> None:
    with monitoring(environ, made):
        result = weir(environ, "run", "monitoring")
        assert result.returncode == 1
        assert b"WEIR_MONITORING_PORT" in result.stderr.splitlines()[-1]
