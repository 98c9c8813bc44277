"""Answers about metrics: those who wait for one that nobody has prepared."""

from __future__ import annotations

import asyncio

import msgspec

from weir.consumers.metrics.answers import MetricAnswers
from weir.consumers.metrics.revisions import MetricView
from weir.infra.config import Config
from weir.infra.errors import OverloadError

NOW = 1_769_860_841_250  # 2026-01-31T12:00:41.250Z


def test_so_many_may_wait_and_those_who_wait_for_the_same_get_the_same() -> None:
    async def ask() -> list[bytes | BaseException]:
        answers = MetricAnswers(Config(), MetricView(Config()), clock=lambda: NOW)
        asked = [answers.all(minutes) for minutes in (1, 1, 1, *range(2, 66))]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask())
    assert answers[0] is answers[1] is answers[2]
    assert [isinstance(answer, OverloadError) for answer in answers] == [False] * 66 + [True]
    empty = {"lag": {"records": None, "ms": None}, "aggregates": {}}
    for answer, start in ((answers[0], "12:00"), (answers[65], "10:57")):
        assert isinstance(answer, bytes)
        assert msgspec.json.decode(answer) == empty | {
            "from": f"2026-01-31T{start}:00Z",
            "to": "2026-01-31T12:01:00Z",
            "as_of": "2026-01-31T12:00:41.250Z",
        }
