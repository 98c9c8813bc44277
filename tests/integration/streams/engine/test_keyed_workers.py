"""A keyed job on a real Kafka whose workers are killed: state, outputs, timers and dead letters are exact."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from support.engine import keyed_totals as totals
from support.wait import until
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics, producer
from weir.schemas.topics import DEAD_LETTERS
from weir.streams.engine.core.records import Record
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group, read_to

EVENTS = 6000
CLIENTS = 40
SEED = 4


@contextmanager
def worker(environ: dict[str, str], kind: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that is killed with SIGKILL at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, totals.__file__, kind], env=environ, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def payments() -> list[totals.Payment]:
    """Of each twenty payments one is refused, and each eighth is sent again."""
    chance = random.Random(SEED)
    sent = []
    for n in range(EVENTS):
        payment = totals.Payment(f"client-{n % CLIENTS}", n, -1 if n % 20 == 7 else chance.randrange(100))
        sent += [payment] * (2 if n % 8 == 0 else 1)
    return sent


def send(config: Config, some: list[totals.Payment], start: int, by_client: bool) -> None:
    client = producer(config)
    for payment in some:
        key = payment.client.encode() if by_client else str(payment.id).encode()
        client.produce(config.topic("payments"), msgspec.json.encode(payment), key, timestamp=start + payment.id)
        client.poll(0)
    assert client.flush(30) == 0


def records(config: Config, topic: str) -> list[Record]:
    """Returns every committed record of the topic."""
    group = Group(config, "reader")
    return [
        record
        for partition in range(group.partitions(topic))
        for record in read_to(config, topic, partition, *group.ends(topic, partition))
    ]


@pytest.mark.parametrize("kind", [pytest.param("direct", marks=pytest.mark.long), "routed"])
def test_state_and_outputs_are_exact_though_workers_are_killed(
    config: Config, environ: dict[str, str], tmp_path: Path, kind: str
) -> None:
    job, sent = totals.job(kind), payments()
    ensure_topics(config, [*job.writes, job.source, DEAD_LETTERS])
    ledger, start = LedgerReader(config, job), time.time_ns() // 1_000_000 - 60_000
    step = len(sent) // 6
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    for number, piece in enumerate(pieces[:3]):
        with worker(environ, kind, tmp_path / f"{number}.log"):
            done = ledger.read().merged
            send(config, piece[:100], start, by_client=kind == "direct")
            until(lambda before=done: ledger.read().merged > before)
            send(config, piece[100:], start, by_client=kind == "direct")  # and killed while it works on these
    with worker(environ, kind, tmp_path / "a.log"), worker(environ, kind, tmp_path / "b.log"):
        for piece in pieces[3:]:
            send(config, piece, start, by_client=kind == "direct")
        refused = sum(payment.amount < 0 for payment in sent)
        good = {payment.id: payment for payment in sent if payment.amount >= 0}

        until(lambda: ledger.read().merged == len(sent) - refused)
        until(lambda: len(records(config, "receipts")) >= 2 * len(good))
    told = ledger.read()
    assert (told.accepted, told.counted, told.dead) == (len(sent), len(sent) - refused, refused)
    assert len(records(config, "dead-letters")) == refused
    receipts = Counter(tuple(msgspec.json.decode(r.value() or b"")) for r in records(config, "receipts"))
    assert receipts == Counter([("paid", n) for n in good] + [("due", n) for n in good])
    expected: Counter[str] = Counter()
    for payment in good.values():
        expected[payment.client] += payment.amount
    latest = {(r.key() or b"").decode(): r.value() or b"" for r in records(config, "accounts")}
    accounts = {client: msgspec.msgpack.decode(raw) for client, raw in latest.items()}
    assert {client: state["total"] for client, (state, _, _) in accounts.items()} == dict(expected)
    assert all(timers is None for _, timers, _ in accounts.values())
    assert sorted(n for state, _, _ in accounts.values() for n in state["seen"]) == sorted(good)
