"""A keyed job for a test, and a worker of it: `python keyed_totals.py direct|routed|few`."""

from __future__ import annotations

import os
import sys

import msgspec

from weir.infra import config as configuration
from weir.infra import log
from weir.infra.config import Config
from weir.infra.runtime.status import StatusFile
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import Topic
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.worker.worker import run

#: How long after its event a timer is set, in ms.
DELAY = 1000
#: How many clients' accounts are kept at most where there are to be few.
FEW = 8


class Payment(msgspec.Struct, frozen=True):
    """An amount below 0 is refused; an id that was seen does not count again."""

    client: str
    id: int
    amount: int


class Account(msgspec.Struct, frozen=True):
    total: int
    seen: list[int]


PAYMENTS = Topic("payments", "test", "", "", Payment)
ROUTED = Topic("payments-routed", "test", "", "", None, internal=True)
ACCOUNTS = Topic("accounts", "test", "", "", None, config={"cleanup.policy": "compact"}, internal=True)
RECEIPTS = Topic("receipts", "test", "", "", None)


def process(ctx: Context[Account], payment: Payment) -> None:
    before = ctx.state or Account(0, [])
    if payment.id in before.seen:
        return
    ctx.state = Account(before.total + payment.amount, [*before.seen, payment.id])
    ctx.emit(RECEIPTS, ["paid", payment.id], ctx.key)
    ctx.timer(str(payment.id), ctx.timestamp + DELAY)
    if payment.amount < 0:
        raise PoisonError(Reason.INVALID, "an amount below 0")


def on_timer(ctx: Context[Account], name: str) -> None:
    ctx.emit(RECEIPTS, ["due", int(name)], ctx.key, timestamp=ctx.timestamp)


def job(kind: str) -> Keyed[Payment, Account]:
    """The job; "routed": its source is not partitioned by client; "few": it keeps FEW accounts."""
    most = {"ttl": 3_600_000, "capacity": FEW} if kind == "few" else {}
    return Keyed(
        name=f"accounts-{kind}", source=PAYMENTS, changelog=ACCOUNTS, state=Account, key=lambda payment: payment.client,
        process=process, on_timer=on_timer, outputs=(RECEIPTS,), repartition=ROUTED if kind == "routed" else None,
        **most,
    )  # fmt: skip


def main(config: Config, kind: str) -> None:
    log.setup(config, f"worker-{kind}")
    run(config, job(kind), StatusFile(config, f"worker-{kind}-{os.getpid()}"))


if __name__ == "__main__":
    main(configuration.load(os.environ), sys.argv[1])
