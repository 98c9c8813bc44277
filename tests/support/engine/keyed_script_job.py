"""A keyed job of the tests' own, whose events are scripts of what `process` is to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import ANY_TIMESTAMP, Topic
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.keyed.stage import KeyedStage, RoutedKeyedStage
from weir.streams.testing import Harness

BASE = 1_750_000_020_000


class Act(msgspec.Struct, frozen=True):
    """An event that is a script for `process`: each step is the name of an action and its arguments."""

    key: str
    steps: list[tuple[str, Any]]


class Total(msgspec.Struct):
    total: int
    seen: list[str] = []


ACTS = Topic("acts", "test", "", "", Act)
ROUTED = Topic("acts-routed", "test", "", "", None, config={"max.message.bytes": str(16 << 20)}, internal=True)
TABLE = Topic("totals", "test", "", "", None, config={"cleanup.policy": "compact"}, internal=True)
OUT = Topic("out", "test", "", "", None, config=ANY_TIMESTAMP)
ELSEWHERE = Topic("elsewhere", "test", "", "", None)


def key(act: Act) -> str:
    if act.key == "nobody":
        raise PoisonError(Reason.INVALID, "nobody has no state")
    return act.key


def process(ctx: Context[Total], act: Act) -> None:
    for name, argument in act.steps:
        if name == "add":
            ctx.state = Total(ctx.state.total + argument if ctx.state else argument)
        elif name == "mutate":
            assert ctx.state is not None
            ctx.state.seen.append(argument)
        elif name == "delete":
            ctx.state = None
        elif name == "emit":
            ctx.emit(OUT, [argument, ctx.state and ctx.state.total, ctx.watermark], key=ctx.key)
        elif name == "elsewhere":
            ctx.emit(ELSEWHERE, argument)
        elif name == "timer":
            ctx.timer(*argument)
        elif name == "cancel":
            ctx.cancel(argument)
        elif name == "refuse":
            raise PoisonError(Reason.INVALID, argument)


def on_timer(ctx: Context[Total], name: str) -> None:
    ctx.emit(OUT, [ctx.key, name, ctx.timestamp], key=ctx.key)
    if name == "again":
        ctx.timer("again", ctx.timestamp + 10_000)
    elif name == "never ends":
        ctx.timer("never ends", ctx.timestamp)
    elif name == "refuses":
        raise PoisonError(Reason.INVALID, "there is nothing to refuse")


JOB = Keyed(
    name="totals", source=ACTS, changelog=TABLE, state=Total, key=key, process=process, on_timer=on_timer,
    outputs=(OUT,), max_skew=10_000_000,
)  # fmt: skip
DIRECT, VIA = JOB, replace(JOB, repartition=ROUTED)
both = pytest.mark.parametrize("job", [DIRECT, VIA], ids=["direct", "routed"])


def harness(job: Keyed[Act, Total], partitions: int = 1) -> Harness:
    return Harness(job, partitions, now_ms=BASE)


def act(h: Harness, *steps: tuple[str, Any], at: int = 0, who: str = "a", partition: int = 0, **more: Any) -> None:
    h.send("acts", {"key": who, "steps": steps}, BASE + at, partition, **more)


def state(h: Harness, who: str = "a", partition: int = 0) -> Any:
    """Returns the key's state in the table, and checks that it is the same once restored from the changelog."""
    topic = h.job.tasks[-1].topic.name
    found = []
    for _ in range(2):
        stage = h.stage(topic, partition)
        assert isinstance(stage, KeyedStage | RoutedKeyedStage)
        found.append(stage.find((who,)))
        h.crash()
    assert found[0] == found[1]
    return found[0][0] if found[0] else None
