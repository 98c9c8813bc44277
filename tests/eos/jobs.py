"""Kafka's EosTestClient as two keyed jobs: echo, minimum, sum and repartition; then maximum and count.

data ──▶ EosTest ──▶ echo, min, sum, repartition ──▶ EosTest-2 ──▶ max, cnt
"""

from __future__ import annotations

import os

import msgspec

from eos.topics import CNT, DATA, ECHO, MAX, MAX_CNT, MIN, MIN_SUM, REPARTITION, SUM, integer, key_of, long
from weir.infra.config import Config
from weir.streams.api import Context, Keyed
from weir.streams.jobs import registry as jobs

#: The names are the consumer groups, and the first one's is the verifier's.
FIRST, SECOND = NAMES = ("EosTest", "EosTest-2")
#: The environment variable that says where the jobs keep their state: `memory` or `rocksdb`.
STORE = "EOS_STORE"


class MinSum(msgspec.Struct, array_like=True):
    """The state of a key in the first job."""

    min: int
    sum: int


class MaxCnt(msgspec.Struct, array_like=True):
    """The state of a key in the second job."""

    max: int
    cnt: int


def first(ctx: Context[MinSum], value: int) -> None:
    """Sends the value on, and tells the key's minimum and sum so far."""
    was = ctx.state
    now = MinSum(value, value) if was is None else MinSum(min(was.min, value), was.sum + value)
    ctx.state = now
    for topic, told in ((ECHO, integer(value)), (REPARTITION, integer(value)), (MIN, integer(now.min))):
        ctx.emit(topic, told, ctx.key, ctx.timestamp)
    ctx.emit(SUM, long(now.sum), ctx.key, ctx.timestamp)


def second(ctx: Context[MaxCnt], value: int) -> None:
    """Tells the key's maximum and count so far."""
    was = ctx.state
    now = MaxCnt(value, 1) if was is None else MaxCnt(max(was.max, value), was.cnt + 1)
    ctx.state = now
    ctx.emit(MAX, integer(now.max), ctx.key, ctx.timestamp)
    ctx.emit(CNT, long(now.cnt), ctx.key, ctx.timestamp)


def min_sum(_: Config) -> Keyed[int, MinSum]:
    """The first job."""
    return Keyed(
        name=FIRST, source=DATA, changelog=MIN_SUM, state=MinSum, key=key_of, process=first,
        outputs=(ECHO, REPARTITION, MIN, SUM), store=os.environ.get(STORE, "memory"),
    )  # fmt: skip


def max_cnt(_: Config) -> Keyed[int, MaxCnt]:
    """The second job."""
    return Keyed(
        name=SECOND, source=REPARTITION, changelog=MAX_CNT, state=MaxCnt, key=key_of, process=second,
        outputs=(MAX, CNT), store=os.environ.get(STORE, "memory"),
    )  # fmt: skip


def register() -> None:
    """Makes the jobs known to this process, as `weir.streams.jobs.registry` knows its own."""
    jobs.JOBS.register(FIRST, min_sum)
    jobs.JOBS.register(SECOND, max_cnt)
