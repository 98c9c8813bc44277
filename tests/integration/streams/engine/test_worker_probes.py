"""A worker's probes while Kafka is away: it lives, and says what it waits for."""

from __future__ import annotations

import json

from support.command import started
from support.http.table_client import get
from support.wait import until
from weir.infra.ports import free_ports


def test_a_worker_that_waits_for_kafka_lives_and_is_not_ready(environ: dict[str, str]) -> None:
    kafka, port = free_ports(2)
    away = environ | {"WEIR_KAFKA": f"127.0.0.1:{kafka}", "WEIR_WORKER_PORT": str(port)}
    address = f"http://127.0.0.1:{port}"
    with started(away, "worker", "links") as worker:
        worker.wait_for_error_line(b"worker.waiting")
        assert get(address, "/healthz").status == 200
        until(lambda: get(address, "/readyz").body.get("status") == "waiting")
        answer = get(address, "/readyz")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert f"no Kafka answers at 127.0.0.1:{kafka}" in json.dumps(answer.body)
        worker.terminate()
