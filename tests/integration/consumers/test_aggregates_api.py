"""The aggregates of the last N minutes over HTTP: `weir run metrics`, its view in memory, and its failures."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from support.command import Running, started
from support.http.table_client import Answer, get
from support.metrics.metric_records import MINUTE, Job, cell, this_minute
from support.servers.own_servers import OwnServer
from support.wait import PATIENCE_S, until
from weir.consumers.metrics.routes import UNKNOWN
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.runtime.status import read_all
from weir.schemas.times import from_rfc3339
from weir.schemas.topics import METRIC_AGGREGATES

Figures = dict[str, float]


class Api:
    """Asks the service of one test."""

    def __init__(self, config: Config) -> None:
        self._address = f"http://127.0.0.1:{config.metrics.port}"

    def get(self, path: str, **parameters: object) -> Answer:
        return get(self._address, path + ("?" + urlencode(parameters) if parameters else ""))

    def all(self, minutes: int = 60) -> dict[str, Figures]:
        answer = self.get("/aggregates", minutes=minutes)
        assert answer.status == 200, answer
        found: dict[str, Figures] = answer.body["aggregates"]
        return found

    def counts(self, minutes: int = 60) -> dict[str, float]:
        return {name: figures["count"] for name, figures in self.all(minutes).items()}

    def lag(self) -> Any:
        return self.get("/health").body["lag"]

    def post(self, events: object) -> int:
        connection = http.client.HTTPConnection(self._address.removeprefix("http://"), timeout=PATIENCE_S)
        try:
            connection.request("POST", "/metric-events", json.dumps(events), {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def metrics(environ: dict[str, str], config: Config) -> Iterator[tuple[Api, Running]]:
    """The service, past its start."""
    with started(environ, "run", "metrics") as service:
        service.wait_for_error_line(b"metrics.running")
        api = Api(config)
        until(lambda: api.get("/health").status == 200)
        yield api, service


@pytest.fixture
def job(config: Config) -> Job:
    return Job(config)


def test_the_last_minutes_are_merged_by_type_and_follow_every_revision(
    environ: dict[str, str], config: Config, job: Job
) -> None:
    now = this_minute()
    job.write(cell(now - 5, "login", [(0.25, "a"), (0.5, "b")]), cell(now - 40, "login", [(7.0, "c")]))
    job.write(cell(now - 6, "search", [(-3.5, "a")]), partition=1)
    with metrics(environ, config) as (api, _):
        login = {"count": 2, "sum": 0.75, "avg": 0.375, "min": 0.25, "max": 0.5, "p50": 0.25, "p95": 0.5,
                 "p99": 0.5, "users": 2}  # fmt: skip
        search = {"count": 1, "sum": -3.5, "avg": -3.5, "min": -3.5, "max": -3.5, "p50": -3.5, "p95": -3.5,
                  "p99": -3.5, "users": 1}  # fmt: skip
        before = this_minute()
        answer = api.get("/aggregates", minutes=20)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.body["lag"] == {"records": 0, "ms": 0}
        start, end, as_of = (from_rfc3339(answer.body[name]) for name in ("from", "to", "as_of"))
        assert end - start == 20 * MINUTE
        assert before <= end // MINUTE - 1 == as_of // MINUTE <= this_minute()
        assert answer.body["aggregates"] == {"login": login, "search": search}
        assert list(answer.body) == ["from", "to", "as_of", "lag", "aggregates"]
        assert api.counts(60) == {"login": 3, "search": 1}

        events = [(0.25, "a"), (0.5, "b"), (0.3, "c")]
        job.write(cell(now - 5, "login", events, final=True), cell(now - 3, "login", [(1.0, "a")]))
        until(lambda: api.counts(20) == {"login": 4, "search": 1})
        job.write(cell(now - 5, "login", [*events, (9.0, "late")], final=True))
        until(lambda: api.counts(20) == {"login": 5, "search": 1})
        assert api.counts(60) == {"login": 6, "search": 1}
        assert api.all(20)["login"]["max"] == 9.0
    with metrics(environ, config) as (api, _):
        assert api.counts(20) == {"login": 5, "search": 1}


def test_one_type_is_answered_by_itself(environ: dict[str, str], config: Config, job: Job) -> None:
    now = this_minute()
    job.write(cell(now - 5, "a/b ü%", [(0.25, "a")]), cell(now - 300, "old", [(1.0, "a")]))
    with metrics(environ, config) as (api, _):
        for answer in (
            api.get("/aggregates/" + quote("a/b ü%", safe=""), minutes=10),
            api.get("/aggregates", minutes=10, event_type="a/b ü%"),
        ):
            assert answer.status == 200, answer
            assert {name: figures["count"] for name, figures in answer.body["aggregates"].items()} == {"a/b ü%": 1}
        assert api.get("/aggregates/old", minutes=1440).body["aggregates"]["old"]["count"] == 1
        assert api.get("/aggregates/old").body["aggregates"] == {}  # an hour
        assert "old" not in api.all(60)
        unknown = api.get("/aggregates/nonsense", minutes=10)
        assert unknown.status == 404
        assert unknown.body == {"error": {"reason": UNKNOWN}, "lag": {"records": 0, "ms": 0}}
        assert api.get("/aggregates", minutes=10, event_type="nonsense").status == 404


@pytest.mark.parametrize("path", ["/aggregates", "/aggregates/login"])
def test_a_bad_parameter_is_a_400_with_the_field_and_the_reason(
    environ: dict[str, str], config: Config, job: Job, path: str
) -> None:
    bad: list[tuple[str, str]] = [("minutes", text) for text in ("0", "1441", "-1", "1.5", "", "x", "٣", "9" * 5000)]
    bad += [("minute", "5"), ("limit", "5")]
    with metrics(environ, config) as (api, _):
        for field, text in bad:
            answer = api.get(path, **{field: text})
            assert (answer.status, answer.body["error"]["field"]) == (400, field), answer
            assert answer.body["error"]["reason"]
        assert api.get(path + "?minutes=5&minutes=6").body["error"]["field"] == "minutes"
        for text in (
            "/aggregates/",
            "/aggregates/a/b",
            "/aggregates/%ff",
            "/aggregates/a%00",
            "/aggregates/" + "x" * 129,
        ):
            assert api.get(text).body["error"]["field"] == "event_type", text
        assert api.get("/aggregates", event_type="").body["error"]["field"] == "event_type"
        assert api.get("/aggregates", minutes=1440).body["aggregates"] == {}


def test_what_is_no_cell_is_left_out_and_told(environ: dict[str, str], config: Config, job: Job) -> None:
    now = this_minute()
    key, value, state = cell(now - 5, "login", [(1.0, "a")])
    _, _, other = cell(now - 4, "login", [(1.0, "a")])
    assert state is not None
    job.abort(cell(now - 5, "login", [(666.0, "x")] * 2))
    job.write((key, value, other), (key, value, None), (key, value, b"\xc1"), (key, value, state[:-1]))
    job.write((key, b"[", state), (key, None, state), (key, b"null", state))
    job.write(cell(now - 5, "login", [(1.0, "a"), (2.0, "b")]))
    with metrics(environ, config) as (api, service):
        assert api.counts() == {"login": 2}
        told = api.get("/health").body["aggregates"]
        assert (told["read"], told["unreadable"], told["types"]) == (8, 7, 1)
        service.wait_for_error_line(b"view.unreadable")


def test_only_the_last_day_counts_and_what_was_written_before_it_is_not_read(
    environ: dict[str, str], config: Config, job: Job
) -> None:
    now, day = this_minute(), 24 * 60
    job.write(*(cell(now - 2 * day, f"t{n}", [(1.0, "a")]) for n in range(9)), timestamp=(now - 2 * day) * MINUTE)
    job.write(cell(now - day - 1, "login", [(1.0, "a")]), cell(now - day + 10, "login", [(2.0, "a")]))
    job.write(cell(now + 30, "login", [(4.0, "a")]))  # a clock that is ahead
    with metrics(environ, config) as (api, _):
        assert api.all(1440)["login"]["sum"] == 2.0
        told = api.get("/health").body["aggregates"]
        assert (told["read"], told["types"], told["deleted"]) == (3, 1, 0)


def test_events_come_in_and_their_aggregates_out(environ: dict[str, str], config: Config) -> None:
    clients.ensure_topics(config)
    with metrics(environ, config) as (api, _), started(environ, "worker", "metrics"):
        at = (this_minute() - 2) * MINUTE
        events = [
            {"timestamp": at + n, "user_id": f"u{n % 7}", "event_type": "login", "value": 0.1} for n in range(1000)
        ]
        assert api.post(events) == 202
        until(lambda: api.counts() == {"login": 1000})
        found = api.all()["login"]
        assert (found["sum"], found["avg"], found["users"]) == (100.0, 0.1, 7)
        # Late, and in a request of its own: it revises a minute that is remembered.
        assert api.post({"timestamp": at - 20 * MINUTE, "user_id": "late", "event_type": "login", "value": 900}) == 202
        until(lambda: api.all()["login"] == found | {"count": 1001, "sum": 1000.0, "avg": 1000 / 1001, "max": 900.0,
                                                     "users": 8})  # fmt: skip


def test_a_topic_that_is_made_again_starts_the_view_anew(environ: dict[str, str], config: Config, job: Job) -> None:
    now = this_minute()
    job.write(*(cell(now - 5, f"t{n}", [(1.0, "a")]) for n in range(50)))
    with metrics(environ, config) as (api, service):
        assert len(api.counts()) == 50
        topic, admin = config.topic(METRIC_AGGREGATES.name), clients.admin(config)
        admin.delete_topics([topic])[topic].result()
        until(lambda: topic not in admin.list_topics(timeout=PATIENCE_S).topics)
        Job(config).write(cell(now - 5, "new", [(1.0, "a")]))
        service.wait_for_error_line(b"view.begins_anew")
        until(lambda: api.get("/aggregates").status == 200 and api.counts() == {"new": 1})


@pytest.mark.long
def test_kafka_away_is_told_and_what_is_known_is_answered(
    environ: dict[str, str], kafka_of_its_own: tuple[Config, OwnServer]
) -> None:
    settings, server = kafka_of_its_own
    mine = {n: v for n, v in environ.items() if n != "WEIR_KAFKA"} | {
        "WEIR_KAFKA_PORT": str(settings.kafka.port),
        "WEIR_KAFKA_CONTROLLER_PORT": str(settings.kafka.controller_port),
    }
    now = this_minute()
    Job(settings).write(cell(now - 5, "login", [(1.0, "a")]))
    server.stop()
    with started(mine, "run", "metrics") as service:
        service.wait_for_error_line(b"http.listening")
        api = Api(settings)
        answer = api.get("/aggregates")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.body["lag"] == {"records": None, "ms": None}
        server.start()
        until(lambda: api.get("/health").status == 200)
        assert api.counts() == {"login": 1}
        server.kill()
        until(lambda: api.get("/health").body["status"] == "waiting")
        until(lambda: api.get("/aggregates").body["lag"]["ms"] > 2_000)
        assert api.counts() == {"login": 1}
        until(lambda: [s.state for s in read_all(settings) if s.name == "metrics"] == ["waiting"])
        server.start()
        Job(settings).write(cell(now - 5, "login", [(1.0, "a"), (2.0, "b")]))
        until(lambda: api.get("/health").status == 200 and api.counts() == {"login": 2})
        server.stop()
        service.terminate()


def test_it_ends_in_order_while_it_is_asked_all_the_time(environ: dict[str, str], config: Config, job: Job) -> None:
    now = this_minute()
    job.write(*(cell(now - m, f"t{n}", [(1.0, "a")] * 20) for n in range(20) for m in range(0, 60, 5)))
    with metrics(environ, config) as (api, service):
        stop = threading.Event()

        def ask(minutes: int) -> None:
            while not stop.is_set():
                try:
                    assert api.get("/aggregates", minutes=minutes).status in (200, 503)
                except OSError:
                    return  # it has ended

        asking = [threading.Thread(target=ask, args=(minutes,)) for minutes in (1, 60, 1440)]
        for thread in asking:
            thread.start()
        until(lambda: api.get("/health").body["aggregates"]["ready"] == 3)
        service.terminate()
        stop.set()
        for thread in asking:
            thread.join(PATIENCE_S)
        assert [s.name for s in read_all(config)] == []
