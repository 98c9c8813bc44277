"""A keyed job without room for all keys, on a real Kafka: the log, the endpoint, the status and the ledger say so."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.streams.engine.test_keyed_workers import payments, records, send, worker
from support.engine import keyed_totals as totals
from support.http.table_client import address_of, get
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.infra.runtime.status import read_all
from weir.schemas.topics import DEAD_LETTERS
from weir.streams.engine.progress.ledger_reader import LedgerReader

START = 1_700_000_000_000


@pytest.mark.long
def test_what_had_to_go_is_told_everywhere_also_after_a_restart(
    config: Config, environ: dict[str, str], tmp_path: Path
) -> None:
    job, sent = totals.job("few"), payments()[:400]
    ensure_topics(config, [*job.writes, job.source, DEAD_LETTERS])
    send(config, sent, START, by_client=True)
    ledger, good = LedgerReader(config, job), sum(payment.amount >= 0 for payment in sent)

    def asked(process: subprocess.Popen[bytes]) -> Any:
        address = address_of(config, process)
        return get(address, "/health").body.get("dropped") if address else None

    def noted(process: subprocess.Popen[bytes]) -> Any:
        return next((one.detail.get("dropped") for one in read_all(config) if one.pid == process.pid), None)

    with worker(environ, "few", tmp_path / "a.log") as process:
        until(lambda: ledger.read().merged == good)
        dropped = ledger.read().dropped
        assert dropped is not None
        assert dropped > 0
        until(lambda: asked(process) == noted(process) == dropped)
        warnings = (tmp_path / "a.log").read_text().count("keys.dropped")
        assert 0 < warnings <= config.kafka.partitions, "not at every flush"
        latest = {record.key(): record.value() for record in records(config, "accounts")}
        assert 0 < sum(value is not None for value in latest.values()) <= totals.FEW < len(latest)
    with worker(environ, "few", tmp_path / "b.log") as process:
        until(lambda: asked(process) == dropped)
