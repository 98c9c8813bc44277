"""Metrics from each way in to each way out: HTTP, WebSocket and Kafka; over HTTP and in Postgres."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.command import started, weir
from support.http.http_service import HttpService
from support.wait import PATIENCE_S
from support.websocket import websocket_tool
from weir.infra.config import Config

SERVICES = ("worker-metrics", "metrics", "metric-store")
WEBSOCKET = Path(websocket_tool.__file__)

Event = dict[str, object]


def event(value: float, user: str, event_type: str = "login", timestamp: object = None) -> Event:
    """An event of now, if not said otherwise."""
    at = time.time() if timestamp is None else timestamp
    return {"timestamp": at, "user_id": user, "event_type": event_type, "value": value}


def said(environ: dict[str, str], message: str) -> Any:
    """The answer to a message over a WebSocket."""
    url = f"ws://127.0.0.1:{environ['WEIR_METRICS_PORT']}/ws/metric-events"
    tool = subprocess.Popen(
        [sys.executable, WEBSOCKET, "websocat", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert tool.stdin is not None
        assert tool.stdout is not None
        tool.stdin.write(message + "\n")
        tool.stdin.flush()
        return json.loads(tool.stdout.readline())
    finally:
        tool.communicate(timeout=PATIENCE_S)


def test_from_every_way_in_to_every_way_out(environ: dict[str, str], config: Config) -> None:
    with started(environ, "up", "--only", ",".join(SERVICES)) as up:
        service = HttpService(up, config, config.metrics.port)

        def aggregates(query: str = "minutes=5") -> Any:
            return service.ask(f"/aggregates?{query}")[1]["aggregates"]

        bad = event(1, "", "login")
        status, answer = service.ask("/metric-events", json.dumps([event(1, "a"), event(2, "b"), bad]).encode())
        assert (status, answer["accepted"], answer["refused"]) == (400, 2, 1)
        assert [verdict["status"] for verdict in answer["events"]] == ["accepted", "accepted", "refused"]
        assert answer["events"][2]["field"] == "user_id"

        answer = said(environ, json.dumps([event(3, "a"), event(-0.5, "c", "search")]))
        assert (answer["status"], answer["accepted"]) == (202, 2)

        lines = "\n".join(json.dumps(e) for e in ([event(4, "a"), event(5, "d")], event(6, "e", timestamp=-1)))
        produced = weir(environ, "produce", "metric-events", stdin=lines.encode())
        assert produced.stdout == b"accepted 1, refused 1\n"  # records

        up.wait_for(lambda: aggregates().get("login", {}).get("count") == 5 and "search" in aggregates())
        login = {"count": 5, "sum": 15.0, "avg": 3.0, "min": 1.0, "max": 5.0, "p50": 3.0, "p95": 5.0, "p99": 5.0}
        assert aggregates()["login"] == login | {"users": 3}
        assert aggregates("minutes=5&event_type=search").keys() == {"search"}
        assert service.ask("/aggregates?minutes=1441")[1]["error"]["field"] == "minutes"
        assert service.ask("/aggregates/nothing")[0] == 404

        with psycopg.connect(config.dsn, autocommit=True) as connection:
            stored = "SELECT sum(count), sum(sum), min(min), max(max) FROM metric_aggregates WHERE event_type = 'login'"
            up.wait_for(lambda: connection.execute(stored).fetchone() == (5, 15.0, 1.0, 5.0))

        service.kill(*SERVICES)
        assert service.ask("/metric-events", json.dumps(event(9, "a")).encode())[0] == 202
        up.wait_for(lambda: aggregates().get("login", {}).get("count") == 6)
        assert aggregates()["login"]["sum"] == pytest.approx(24.0, rel=0, abs=0)
        assert aggregates()["login"]["users"] == 3
        with psycopg.connect(config.dsn, autocommit=True) as connection:
            up.wait_for(lambda: connection.execute(stored).fetchone() == (6, 24.0, 1.0, 9.0))
