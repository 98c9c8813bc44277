"""The lag counts what no worker has done yet, and an answer is waited for until it has what was accepted."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

from support.command import started
from support.http.table_client import get, post
from support.monitoring.monitoring_service import monitoring
from support.wait import PATIENCE_S, until
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.progress.position import Position, from_text, to_text
from weir.schemas.topics import MONITORING_EVENTS

NOTHING = {"records": 0, "ms": 0}


def event(n: int, client: str = "a") -> dict[str, Any]:
    return {"client_id": client, "event_id": f"{client}-{n}", "event_timestamp": 1_000, "event_type": "CUMULATIVE",
            "event_key": "k", "event_value": n}  # fmt: skip


def test_what_no_worker_has_done_is_in_the_lag_and_its_position_is_not_in_an_answer(
    environ: dict[str, str], config: Config
) -> None:
    with monitoring(environ, config) as (api, _):
        assert api.client("a").body["lag"] == NOTHING
        answer = api.post(event(1), event(2, "b"))
        position = answer.body["position"]
        assert answer.status == 202
        for path in ("/clients/a", "/clients"):
            assert api.get(path).body["lag"]["records"] == 2
        assert "?after=now" in api.client("a").body["error"]["reason"]

        for after in (position, "now"):
            behind = api.client("a", after=after, wait=1)
            assert (behind.status, behind.headers["Retry-After"]) == (503, "1")
            assert (behind.body["status"], behind.body["lag"]["records"]) == ("behind", 2)
        until(lambda: api.client("a").body["lag"]["ms"] > 1_000)  # since the first was accepted

        # What was accepted before is meant where this one was not written.
        again = api.post(event(1))
        assert again.body["duplicates"] == 1
        assert from_text(again.body["position"]).offsets == from_text(position).offsets
        assert "position" not in api.post(event(3) | {"event_value": "NaN"}).body

        topic, offsets = from_text(position)
        for after, reason in (
            ("", "not a position returned by weir"),
            ("then", "not a position returned by weir"),
            (position[:-1], "not a position returned by weir"),
            (to_text(Position(topic + 1, offsets)), "another topic"),
            (to_text(Position(topic, {p: offset + 1_000 for p, offset in offsets.items()})), "does not have"),
            (to_text(Position(topic, {config.kafka.partitions: 0})), "does not have"),
        ):
            refused = api.client("a", after=after)
            assert (refused.status, refused.body["error"]["field"]) == (400, "after")
            assert reason in refused.body["error"]["reason"]
        for wait in ("0", "61", "1.5", "-1", "x"):
            assert api.client("a", after="now", wait=wait).body["error"]["field"] == "wait"
        assert api.get("/clients", wait=1).body["error"]["field"] == "wait"
        assert api.get("/clients?after=now&after=now").body["error"]["field"] == "after"

        name = config.topic(MONITORING_EVENTS.name)
        admin = clients.admin(config)
        admin.delete_topics([name])[name].result()
        until(lambda: name not in admin.list_topics(timeout=PATIENCE_S).topics)
        clients.ensure_topics(config, [MONITORING_EVENTS])
        refused = api.client("a", after=position)
        assert (refused.status, refused.body["error"]["field"]) == (400, "after")
        until(lambda: api.client("a").body["lag"] == NOTHING)


def test_an_answer_that_waits_for_a_position_has_what_was_accepted(environ: dict[str, str], config: Config) -> None:
    with ExitStack() as stack:
        for command in (("worker", "monitoring-ids"), ("worker", "monitoring"), ("worker", "metrics")):
            stack.enter_context(started(environ, *command))
        stack.enter_context(started(environ, "run", "metrics"))
        api, _ = stack.enter_context(monitoring(environ, config))
        aggregates = f"http://127.0.0.1:{config.metrics.port}"
        until(lambda: answers(aggregates, "/health"))

        for number in range(1, 11):
            told = api.post(event(number), event(number, f"other-{number}"))
            after = told.body["position"] if number % 2 else "now"
            found = api.client("a", after=after, wait=60)
            assert found.status == 200, found
            assert found.body["data"]["k"]["events"] == number
            assert api.client(f"other-{number}").status == 200
        listed = api.get("/clients", after=api.post(event(1)).body["position"], wait=60)  # a duplicate
        assert len(listed.body["clients"]) == 11

        for number in range(1, 11):
            sent = [{"timestamp": time.time(), "user_id": "u", "event_type": f"t{number % 3}", "value": 1}] * 3
            told = post(aggregates, "/metric-events", sent)
            after = quote(told.body["position"] if number % 2 else "now")
            found = get(aggregates, f"/aggregates?minutes=5&after={after}&wait=60")
            assert found.status == 200, found
            assert sum(figures["count"] for figures in found.body["aggregates"].values()) == 3 * number
            assert get(aggregates, f"/aggregates/t{number % 3}?after={after}&wait=60").status == 200

        # A transaction's marker is no record: at rest nothing is behind.
        until(lambda: api.client("a").body["lag"] == NOTHING)
        until(lambda: get(aggregates, "/aggregates").body["lag"] == NOTHING)
        foreign = get(aggregates, f"/aggregates?after={api.post(event(99)).body['position']}")
        assert (foreign.status, foreign.body["error"]["field"]) == (400, "after")


def answers(address: str, path: str) -> bool:
    try:
        return get(address, path).status == 200
    except ConnectionRefusedError:
        return False
