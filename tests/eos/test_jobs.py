"""The jobs of the system test, over lists: what they write, and what they refuse."""

from __future__ import annotations

from typing import Any

from eos import jobs
from eos.topics import SPREAD, integer, integer_of, long
from weir.infra.config import Config
from weir.streams.testing import Harness

BASE = 1_750_000_000_000
VALUES = (7 * SPREAD + 30, 7 * SPREAD + 10, 8 * SPREAD, 7 * SPREAD + 20)


def written(job: Any, source: str, values: list[bytes]) -> Harness:
    h = Harness(job, 1, now_ms=BASE)
    for value in values:
        h.send(source, value, BASE)
    h.run()
    return h


def records(h: Harness, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key(), record.value()) for record in h.records(topic)]


def test_the_first_job_echoes_each_value_and_tells_its_keys_minimum_and_sum() -> None:
    h = written(jobs.min_sum(Config()), "data", [*map(integer, VALUES)])
    keys = [b"7", b"7", b"8", b"7"]
    assert records(h, "echo") == records(h, "repartition") == list(zip(keys, map(integer, VALUES), strict=True))
    least = (7 * SPREAD + 30, 7 * SPREAD + 10, 8 * SPREAD, 7 * SPREAD + 10)
    assert records(h, "min") == list(zip(keys, map(integer, least), strict=True))
    sums = (7 * SPREAD + 30, 14 * SPREAD + 40, 8 * SPREAD, 21 * SPREAD + 60)
    assert records(h, "sum") == list(zip(keys, map(long, sums), strict=True))


def test_the_second_job_tells_its_keys_maximum_and_count() -> None:
    h = written(jobs.max_cnt(Config()), "repartition", [*map(integer, VALUES)])
    most = (7 * SPREAD + 30, 7 * SPREAD + 30, 8 * SPREAD, 7 * SPREAD + 30)
    assert [value for _, value in records(h, "max")] == [*map(integer, most)]
    assert [value for _, value in records(h, "cnt")] == [*map(long, (1, 2, 1, 3))]


def test_bytes_that_are_no_java_integer_go_to_the_dead_letters() -> None:
    h = written(jobs.min_sum(Config()), "data", [b"abc", integer(5), b"", b"12345"])
    assert [record.value() for record in h.records("dead-letters")] == [b"abc", b"", b"12345"]
    assert [value for _, value in records(h, "echo")] == [integer(5)]
    assert integer_of(integer(-3)) == -3
