"""The monitored clients over HTTP: their data, their list, their pages, and refused requests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from support.monitoring.monitoring_service import Api, event, monitoring, total, write
from support.wait import until
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.ports import free_ports

NOON = 1_769_860_800_000  # 2026-01-31T12:00:00Z


def test_a_client_is_dumped_grouped_by_key_and_again_after_a_restart(
    environ: dict[str, str], monitored: Config
) -> None:
    write(
        monitored, total("a", "requests", "11.5", 2), event("a", "cpu", 7, "[0.1]", 2_000), event("a", "cpu", 8, '"x"')
    )
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
    with monitoring(environ, monitored) as (api, service):
        assert api.data("a")["requests"]["event_value"] == 11.5
        write(monitored, total("a", "requests", "12", 3, 3_000))
        until(lambda: api.client("a").body == expected)
        service.terminate()
    with monitoring(environ, monitored) as (api, _):
        answer = api.client("a")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.body == expected


def test_ids_of_any_printable_characters_can_be_asked_for(environ: dict[str, str], monitored: Config) -> None:
    names = ["a/b", "..", ".", "%2F", "ü €", 'q"?#&=+', "100%", "x" * 128]
    write(monitored, *(total(name, name, "1") for name in names))
    with monitoring(environ, monitored) as (api, _):
        for name in names:
            answer = api.client(name, key=name)
            assert (answer.status, answer.body["client_id"]) == (200, name)
            assert answer.body["data"].keys() == {name}
        listed = api.get("/clients").body
        assert listed["clients"] == [{"client_id": name, "keys": 1} for name in sorted(names)]


def test_a_sum_may_be_larger_than_any_number_that_is_added(environ: dict[str, str], monitored: Config) -> None:
    large = "1" + "0" * 120
    write(monitored, total("c-1", "requests", large))
    with monitoring(environ, monitored) as (api, service):
        until(lambda: api.data("c-1") is not None)
        assert api.data("c-1")["requests"]["event_value"] == int(large)
        assert service.process.poll() is None


def test_pages_of_clients_and_of_a_long_series_lose_and_repeat_nothing(
    environ: dict[str, str], monitored: Config
) -> None:
    write(monitored, *(event(f"c{n:02}", "cpu", n) for n in range(25)),
          *(event("long", "cpu", n, time=NOON + n) for n in range(2_500)))  # fmt: skip
    with monitoring(environ, monitored) as (api, _):
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
            write(
                monitored, event("long", "cpu", more, time=NOON + 150), event("long", "aaa", 1), event("long", "zzz", 1)
            )
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


def test_memory_is_bounded_and_a_key_says_what_is_gone(environ: dict[str, str], monitored: Config) -> None:
    write(monitored, total("a", "requests", "1"), *(event("a", "cpu", n, time=NOON + n) for n in range(3_000)))
    with monitoring(environ | {"WEIR_MONITORING_SERIES_MEMORY": "32768"}, monitored) as (api, _):
        data = api.data("a")
        gone = data["cpu"]["truncated"]
        assert gone["until"] == NOON + gone["events"] - 1
        assert api.ids("a", "cpu") == [f"e{n}" for n in range(gone["events"], 3_000)]
        assert data["requests"]["event_value"] == 1
        facts = api.get("/health").body["clients"]
        assert (facts["dropped"], facts["events"]) == (gone["events"], 3_000 - gone["events"])


def test_an_event_of_the_other_kind_is_refused_as_soon_as_the_view_knows(
    environ: dict[str, str], monitored: Config
) -> None:
    write(monitored, total("a", "k", "1"))
    sent = {"client_id": "a", "event_id": "e1", "event_timestamp": NOON, "event_key": "k", "event_value": 1}
    with monitoring(environ, monitored) as (api, _):
        assert api.post(sent | {"event_type": "CUMULATIVE"}).status == 202
        answer = api.post(sent | {"event_type": "TIME-SERIES", "event_id": "e2"})
        assert answer.status == 400
        [verdict] = answer.body["events"]
        assert (verdict["status"], verdict["field"]) == ("refused", "event_type")
        assert "CUMULATIVE" in verdict["reason"]
