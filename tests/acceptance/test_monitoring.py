"""Monitoring as clients and operators see it: duplicates, crashes, and the simulated clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.command import started, weir
from support.http.http_service import HttpService
from weir.infra.config import Config

SERVICES = ("worker-monitoring-ids", "worker-monitoring", "monitoring")
#: One partition, so that what is sent last is what is done last.
ONE = {"WEIR_PARTITIONS": "1"}

Event = dict[str, object]


def event(number: int, key: str, value: object, **changed: object) -> Event:
    """An event of client `c`; the higher the number, the older."""
    kind = "TIME-SERIES" if key == "cpu" else "CUMULATIVE"
    time = 1_769_860_800 - number
    return {
        "client_id": "c", "event_id": f"e-{number}", "event_timestamp": time, "event_type": kind, "event_key": key,
        "event_value": value, **changed,
    }  # fmt: skip


def lines(*events: Event) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


class Monitoring(HttpService):
    """The service `monitoring`."""

    def post(self, *events: Event) -> tuple[int, Any]:
        return self.ask("/events", json.dumps(events).encode())

    def data(self) -> dict[str, Any]:
        """Returns the data of client `c`; empty if the client is unknown."""
        status, answer = self.ask("/clients/c")
        assert status in (200, 404)
        return answer["data"] if status == 200 else {}

    def wait_for(self, key: str) -> dict[str, Any]:
        """Waits until the key is there, and returns the data of client `c`."""
        self.up.wait_for(lambda: key in self.data())
        return self.data()


@pytest.mark.long
def test_an_event_counts_once_through_duplicates_and_crashes(environ: dict[str, str], config: Config) -> None:
    tenths = [event(n, "cost", "0.1" if n % 2 else 0.1) for n in range(1000)]
    loads = [event(2000 + n, "cpu", {"load": [n, None]}) for n in range(3)]
    with started(environ | ONE, "up", "--only", ",".join(SERVICES)) as up:
        weir_ = Monitoring(up, config, config.monitoring.port)

        status, answer = weir_.ask("/events", lines(*tenths, *tenths[:10]), "application/x-ndjson")
        assert (status, answer["accepted"], answer["duplicates"], answer["refused"]) == (202, 1000, 10, 0)

        status, answer = weir_.post(*loads, event(3, "cost", 5), event(3000, "cost", "NaN"), event(3001, "first", 1))
        assert (status, answer["accepted"], answer["duplicates"], answer["refused"]) == (400, 4, 1, 1)
        [refused] = [verdict for verdict in answer["events"] if verdict["status"] == "refused"]
        assert (refused["event_id"], refused["field"]) == ("e-3000", "event_value")

        before = weir_.wait_for("first")
        latest = 1_769_860_800_000
        assert before["cost"] == {
            "event_type": "CUMULATIVE", "event_value": 100, "events": 1000, "event_timestamp": latest,
        }  # fmt: skip
        assert [e["event_id"] for e in before["cpu"]["events"]] == ["e-2002", "e-2001", "e-2000"]  # by their times
        assert [e["event_value"] for e in before["cpu"]["events"]] == [{"load": [n, None]} for n in (2, 1, 0)]

        weir_.kill(*SERVICES)  # now nobody remembers anything
        status, answer = weir_.post(*tenths[:500], *loads, event(3001, "first", 7), event(3002, "second", 1))
        assert (status, answer["refused"]) == (202, 0)
        after = weir_.wait_for("second")
        assert after.pop("second")["event_value"] == 1
        assert after == before

        status, answer = weir_.post(event(4000, "cpu", 1, event_type="CUMULATIVE"))
        assert (status, answer["events"][0]["field"]) == (400, "event_type")
        status, answer = weir_.ask("/clients?limit=1")
        assert (status, answer["clients"]) == (200, [{"client_id": "c", "keys": 4}])
        assert weir_.ask("/clients/nobody")[0] == 404


@pytest.mark.long
def test_simulated_clients_find_all_that_they_sent_through_crashes(environ: dict[str, str], config: Config) -> None:
    with started(environ, "up", "--only", ",".join(SERVICES)) as up:
        weir_ = HttpService(up, config, config.monitoring.port)
        weir_.ask("/clients")
        with started(environ, "simulate", "clients", "--clients", "5", "--rate", "200", "--seed", "1", "--json") as sim:
            up.wait_for(lambda: len(weir_.ask("/clients")[1]["clients"]) == 5)
            weir_.kill(*SERVICES)
            up.wait_for(lambda: len(weir_.ask("/clients")[1]["clients"]) == 5)
            assert sim.interrupt() == 0, (sim.out, sim.err)
        told = json.loads(sim.out[0])
        assert told["equal"]
        assert told["events"] > 5 * 10
        assert told["sent_again"] > 0
        assert told["tried_again"] > 0
        assert (told["keys_compared"], told["keys_in_doubt"], told["differences"]) == (50, 0, 0)


def test_simulated_clients_tell_what_is_not_there(environ: dict[str, str], config: Config) -> None:
    few = ("--clients", "2", "--rate", "100", "--seconds", "0.5", "--timeout", "0")
    with started(environ, "run", "monitoring") as service:  # and nobody who counts
        HttpService(service, config, config.monitoring.port).ask("/clients")
        done = weir(environ, "simulate", "clients", *few)
    assert done.returncode == 1
    assert b"different" in done.stdout
    assert b"requests: sent " in done.stdout


def test_simulated_clients_without_anybody_who_answers_are_one_line(environ: dict[str, str]) -> None:
    done = weir(environ, "simulate", "clients", "--seconds", "1")
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("weir: no monitoring service answers at http://127.0.0.1:")
