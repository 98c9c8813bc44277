"""Keyed tables, asked of any worker: where the engine knows a key's partition, and where only the producers do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from integration.streams.engine.test_keyed_workers import payments, send
from support.engine import keyed_totals as totals
from support.http.table_client import Answer, address_of, ask
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka.client import admin, ensure_topics
from weir.infra.kafka.worker_directory import describe
from weir.schemas.topics import DEAD_LETTERS
from weir.streams.engine.progress.ledger_reader import LedgerReader

START = 1_700_000_000_000


@contextmanager
def worker(environ: dict[str, str], kind: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that is killed at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, totals.__file__, kind], env=environ, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def balances(some: list[totals.Payment]) -> dict[str, int]:
    """Returns each client's final balance: each payment counts once, those below 0 not at all."""
    good = {payment.id: payment for payment in some if payment.amount >= 0}
    found = dict.fromkeys((payment.client for payment in good.values()), 0)
    for payment in good.values():
        found[payment.client] += payment.amount
    return found


@pytest.mark.parametrize("kind", [pytest.param("direct", marks=pytest.mark.long), "routed"])
def test_every_key_of_a_keyed_table_is_answered_by_both_workers(
    kind: str, config: Config, environ: dict[str, str], tmp_path: Path
) -> None:
    ensure_topics(config, [totals.PAYMENTS, totals.ROUTED, totals.ACCOUNTS, totals.RECEIPTS, DEAD_LETTERS])
    some = payments()[:1500]
    send(config, some, START, by_client=kind == "direct")
    ledger, client, group = LedgerReader(config, totals.job(kind)), admin(config), config.topic(f"accounts-{kind}")
    with ExitStack() as stack:
        fleet = [stack.enter_context(worker(environ, kind, tmp_path / f"{n}.log")) for n in range(2)]
        counted = len(some) - sum(payment.amount < 0 for payment in some)
        until(lambda: ledger.read().merged == counted)
        until(lambda: sum(bool(member.partitions) for member in describe(client, config, group)) == 2)
        until(lambda: all(address_of(config, one) for one in fleet))

        def asked(*key: str) -> list[Answer]:
            return [ask(address_of(config, one) or "", *key, table="accounts") for one in fleet]

        expected = balances(some)
        until(lambda: all(answer.status == 200 for name in expected for answer in asked(name)))
        for name, total in expected.items():
            for answer in asked(name):
                assert [cell["value"]["total"] for cell in answer.body["cells"]] == [total]
        until(lambda: all(a.body["lag"]["records"] == 0 for a in asked("client-0")))
        assert [answer.status for answer in asked("nobody")] == [404, 404]
        assert [answer.body["error"]["field"] for answer in asked("a", "b")] == ["key", "key"]
