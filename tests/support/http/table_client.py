"""Asks workers, and whoever else serves `GET /tables`, about keys of link-counts."""

from __future__ import annotations

import http.client
import json
import subprocess
from typing import Any, NamedTuple
from urllib.parse import quote

from support.wait import PATIENCE_S
from weir.infra.config import Config
from weir.infra.runtime.status import read_all


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


def get(address: str, path: str) -> Answer:
    """The answer of http://host:port to a path, sent as it is."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=90)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, json.loads(response.read()), dict(response.getheaders()))
    finally:
        connection.close()


def post(address: str, path: str, body: object) -> Answer:
    """The answer of http://host:port to JSON."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, json.loads(response.read()), dict(response.getheaders()))
    finally:
        connection.close()


def ask(address: str, *key: str, query: str = "", table: str = "link-counts") -> Answer:
    """The answer about a key."""
    return get(address, "/".join(["/tables", table, *(quote(part, safe="") for part in key)]) + query)


def counts(answer: Answer) -> dict[tuple[str, str, str], int]:
    """The counts of an answer, by window and pair; it must be about a key with counts, or without any."""
    assert answer.status in (200, 404), answer
    source, destination = answer.body["key"]
    return {(c["window"]["start"], source, destination): c["value"] for c in answer.body.get("cells", ())}


def address_of(config: Config, worker: subprocess.Popen[bytes]) -> str | None:
    """Where a worker serves; None until it says so."""
    return next((status.address for status in read_all(config) if status.pid == worker.pid), None)


def running(config: Config, worker: subprocess.Popen[bytes]) -> bool:
    """Whether it has tasks."""
    return any(status.pid == worker.pid and status.state == "running" for status in read_all(config))
