"""The plain events of tenants, made into rows in a fifth of the time. Whatever is not plain is left to others."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from consumers.tables import Row
from schemas.codec import BAD_INPUT
from schemas.links import check_id
from schemas.tenants import END, FIRST, MAX_PAYLOAD, MAX_PROCESSING_MS, MAX_TENANT, TenantEvent, has_wide_number
from schemas.times import from_rfc3339, timestamp_ms

#: So many minutes, and so many types, are remembered.
_REMEMBERED = 10_000


class PlainEvents:
    """Gives the rows that `tenant_tables.event_row` gives of checked events; or None, also where that would give one.

    `limits`: milliseconds that an event may be behind the clock, and ahead of it. What a minute is in epoch
    milliseconds, and that a type is one, is looked up once. Several threads may use it.
    """

    def __init__(self, limits: tuple[int, int], clock: Callable[[], int]) -> None:
        self._behind, self._ahead = limits
        self._clock = clock
        self._decode = msgspec.json.Decoder(TenantEvent).decode
        self._minutes: dict[str, int] = {}
        self._types: set[str] = set()

    def row(self, value: bytes) -> Row | None:
        """The row of a record's value; None where it has to be looked at closely."""
        try:
            event = self._decode(value)
            written = event.created_at
            created = self._moment(written) if type(written) is str else timestamp_ms(written)
            name = event.event_type
            if name not in self._types:
                self._remember(name)
        except (*BAD_INPUT, ValueError):
            return None
        tenant, took, now, payload = event.tenant_id, event.processing_time, self._clock(), bytes(event.payload)
        if (
            now - self._behind <= created <= now + self._ahead
            and FIRST <= created < END
            and 0 < tenant <= MAX_TENANT
            and 0 <= took < MAX_PROCESSING_MS
            and len(payload) <= MAX_PAYLOAD
        ):
            if payload[0] == 0x7B:  # {
                return None if has_wide_number(payload) else (tenant, created, round(took * 1000), name, payload)
            if payload == b"null":
                return tenant, created, round(took * 1000), name, None
        return None

    def _moment(self, text: str) -> int:
        """Epoch milliseconds; of 2026-01-31T12:00:00.000Z by way of its minute, which is remembered."""
        if len(text) == 24 and text[-1] == "Z" and text[19] == ".":
            digits = text[17:19] + text[20:23]
            if digits.isdecimal() and digits.isascii() and digits < "60":
                minute = self._minutes.get(text[:17])
                if minute is None:
                    minute = from_rfc3339(text[:17] + "00Z")
                    if len(self._minutes) >= _REMEMBERED:
                        self._minutes.clear()
                    self._minutes[text[:17]] = minute
                return minute + int(digits)
        return timestamp_ms(text)

    def _remember(self, name: str) -> None:
        check_id(name, "event_type")
        if len(self._types) >= _REMEMBERED:
            self._types.clear()
        self._types.add(name)
