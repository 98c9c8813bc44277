"""The plain events of tenants, a run of them made into rows at once. Whatever is not plain is left to others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from weir.consumers.analytics.timestamps import moments
from weir.consumers.sinks.table import Row
from weir.schemas.codec import BAD_INPUT
from weir.schemas.fields import check_id
from weir.schemas.tenants import (
    END,
    FIRST,
    MAX_PAYLOAD,
    MAX_PROCESSING_MS,
    MAX_TENANT,
    has_wide_number,
    may_have_wide_number,
)


class _Plain(msgspec.Struct, frozen=True, gc=False):
    """`weir.schemas.tenants.TenantEvent` with the bounds that the decoder can see to."""

    tenant_id: Annotated[int, msgspec.Meta(ge=1, le=MAX_TENANT)]
    created_at: str | int | float
    event_type: str
    processing_time: Annotated[float, msgspec.Meta(ge=0, lt=MAX_PROCESSING_MS)]
    payload: msgspec.Raw = msgspec.Raw(b"null")


class PlainEvents:
    """Gives the rows that `tenant_tables.event_row` gives of checked events; or None, also where that would give one.

    `limits`: milliseconds that an event may be behind the clock, and ahead of it. Holds no state: several threads may
    use it.
    """

    def __init__(self, limits: tuple[int, int], clock: Callable[[], int]) -> None:
        self._behind, self._ahead = limits
        self._clock = clock
        self._decode = msgspec.json.Decoder(_Plain).decode

    def rows(self, values: Sequence[bytes]) -> Sequence[Row | None]:
        """The row of each record's value; None where it has to be looked at closely."""
        places, events = self._decoded(values)
        if not events:
            return [None] * len(values)
        now = self._clock()
        created = moments([event.created_at for event in events])
        plain = (created >= max(FIRST, now - self._behind)) & (created <= min(END - 1, now + self._ahead))
        types = [event.event_type for event in events]
        if strange := {name for name in set(types) if not _is_type(name)}:
            plain &= np.array([name not in strange for name in types])
        payloads, storable = _payloads(events)
        plain &= storable
        took = np.rint(np.array([event.processing_time for event in events]) * 1000).astype(np.int64)
        tenants = [event.tenant_id for event in events]
        rows = list(zip(tenants, created.tolist(), took.tolist(), types, payloads, strict=True))
        if len(rows) == len(values) and plain.all():
            return rows
        found: list[Row | None] = [None] * len(values)
        for place, row, is_plain in zip(places, rows, plain.tolist(), strict=True):
            if is_plain:
                found[place] = row
        return found

    def _decoded(self, values: Sequence[bytes]) -> tuple[Iterable[int], list[_Plain]]:
        """The values that can be decoded, and which ones these are."""
        decode = self._decode
        try:
            return range(len(values)), [decode(value) for value in values]
        except BAD_INPUT:
            places, events = [], []
            for place, value in enumerate(values):
                with suppress(*BAD_INPUT):
                    events.append(decode(value))
                    places.append(place)
            return places, events


def _is_type(name: str) -> bool:
    try:
        check_id(name, "event_type")
    except ValueError:
        return False
    return True


def _payloads(events: Sequence[_Plain]) -> tuple[Sequence[bytes | None], npt.NDArray[np.bool_]]:
    """The payloads, null as None; and of each whether it is one that Postgres takes."""
    payloads = [bytes(event.payload) for event in events]
    starts = np.frombuffer(bytes(map(itemgetter(0), payloads)), np.uint8)
    nulls = starts == ord("n")
    storable = (nulls | (starts == ord("{"))) & (np.fromiter(map(len, payloads), np.int64) <= MAX_PAYLOAD)
    if may_have_wide_number(b" ".join(payloads)):
        storable &= ~np.fromiter(map(has_wide_number, payloads), np.bool_)
    if nulls.any():
        return [None if null else payload for payload, null in zip(payloads, nulls, strict=True)], storable
    return payloads, storable
