"""The monitoring job: what each client's CUMULATIVE events add up to per key, and its TIME-SERIES events.

It reads events that are there once (`streams/jobs/monitoring_ids.py`), those of one client and key in one partition. A
key is of the kind of its first event; one of the other kind goes to the dead letters, and its id counts as seen:
corrected, it needs another.

The kind of a key is never forgotten, and clients may use any number of keys. So the state is kept in RocksDB: memory is
bounded, and what grows with the keys is the disk, by some 100 bytes for each, there and in `monitoring-state`.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

import msgspec

from weir.infra.config import Config
from weir.schemas.fields import PLACES, SUM_DIGITS, exact, written
from weir.schemas.monitoring import ClientTotal, EventType, UniqueEvent, client_key, number_of
from weir.schemas.topics import MONITORING_SERIES, MONITORING_STATE, MONITORING_TOTALS, MONITORING_UNIQUE
from weir.streams.api import Context, Keyed, PoisonError, Reason

#: Every signal raises, so nothing is ever rounded.
EXACT = decimal.Context(prec=SUM_DIGITS + PLACES, traps=[*decimal.Context().traps])
#: The job before this one has held the records' timestamps against a clock; another machine's may be behind that.
ANY_TIME = 1 << 62


class KeyState(msgspec.Struct, frozen=True):
    """The state of one client's key: its kind, and for a sum the number of events, the latest's time in epoch ms, and
    the total, a decimal number. A series has nothing but its kind, so its state is written once.
    """

    kind: EventType
    events: int = 0
    latest: int = 0
    sum: str = "0"


def process(ctx: Context[KeyState], event: UniqueEvent) -> None:
    """One event: it is added to its key's sum, or to its series."""
    kind, before = event.event_type, ctx.state
    if before is not None and kind is not before.kind:
        raise PoisonError(
            Reason.KEY_TYPE, f"`event_key` of this client is {before.kind.value}, and the event is {kind.value}"
        )
    if kind is EventType.TIME_SERIES:
        if before is None:
            ctx.state = KeyState(kind)
        ctx.emit(MONITORING_SERIES, event, ctx.key, timestamp=ctx.timestamp)
        return
    before = before or KeyState(kind, latest=event.event_timestamp)
    events, latest = before.events + 1, max(before.latest, event.event_timestamp)
    total = written(EXACT.add(Decimal(before.sum), _number(event)))
    ctx.state = KeyState(kind, events, latest, total)
    told = ClientTotal(event.client_id, event.event_key, msgspec.Raw(total.encode()), events, latest)
    ctx.emit(MONITORING_TOTALS, told, ctx.key)


def _number(event: UniqueEvent) -> Decimal:
    """The value of a CUMULATIVE event. Raises PoisonError where it is no number, which nobody should have written."""
    try:
        return exact(number_of(event.event_value))
    except ValueError as e:
        raise PoisonError(Reason.INVALID, f"`event_value` {e}") from e


def job(config: Config) -> Keyed[UniqueEvent, KeyState]:
    """Adds up clients' events per key, or keeps them as a series."""
    return Keyed(
        name="monitoring",
        source=MONITORING_UNIQUE,
        changelog=MONITORING_STATE,
        state=KeyState,
        key=lambda event: client_key(event.client_id, event.event_key).decode(),
        process=process,
        outputs=(MONITORING_TOTALS, MONITORING_SERIES),
        max_skew=ANY_TIME,
        store="rocksdb",
    )
