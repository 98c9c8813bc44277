"""Events of tenants: what happened to whom, when, and how long it took to process."""

from __future__ import annotations

import re

import msgspec

from weir.schemas.fields import check_id
from weir.schemas.times import from_rfc3339, timestamp_ms, to_rfc3339

#: The largest tenant's number: a 64-bit integer of Postgres's.
MAX_TENANT = 2**63 - 1
#: A processing time is below this many milliseconds (11.5 days): with microseconds it is exact in a double.
MAX_PROCESSING_MS = 10**9
#: The largest payload, in bytes.
MAX_PAYLOAD = 256 << 10
#: The longest number in a payload, in characters once it is written without an exponent; and the exponents, which are
#: those of doubles. Postgres writes numbers out: 1e131071 takes it 131 072 characters.
MAX_NUMBER = 400
MIN_EXPONENT = -324
MAX_EXPONENT = 308
#: An event is of this time in epoch milliseconds or later, and before the other.
FIRST = from_rfc3339("2000-01-01T00:00:00Z")
END = from_rfc3339("2100-01-01T00:00:00Z")


class TenantEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a tenant. Topic `tenant-events`, keyed by the tenant. Unknown fields are ignored.

    `created_at` is RFC 3339, or an epoch in seconds or milliseconds (`weir.schemas.times.timestamp_ms`).
    `processing_time` is in milliseconds, and kept to the microsecond. `payload` is a JSON object or null.
    """

    tenant_id: int
    created_at: str | int | float
    event_type: str
    processing_time: float
    payload: msgspec.Raw = msgspec.Raw(b"null")


def tenant_key(event: TenantEvent) -> bytes:
    """The key of a `tenant-events` record: one tenant's events are in order.

    >>> tenant_key(TenantEvent(7, 0, "login", 1.5))
    b'7'
    """
    return str(event.tenant_id).encode()


def processing_us(event: TenantEvent) -> int:
    """The processing time in whole microseconds, half to even.

    >>> processing_us(TenantEvent(7, 0, "login", 1.5))
    1500
    """
    return round(event.processing_time * 1000)


def check_tenant_event(event: TenantEvent) -> None:
    """Raises ValueError, which names the field, for what the type allows and tenants' events do not."""
    if not 1 <= event.tenant_id <= MAX_TENANT:
        raise ValueError(f"`tenant_id` is {event.tenant_id}, 1 to {MAX_TENANT} is allowed")
    check_id(event.event_type, "event_type")
    if not 0 <= event.processing_time < MAX_PROCESSING_MS:  # not a number is never within
        raise ValueError(f"`processing_time` is {event.processing_time} ms, 0 to less than 1e9 is allowed")
    try:
        time = timestamp_ms(event.created_at)
    except ValueError as e:
        raise ValueError(f"`created_at` {e}") from e
    if not FIRST <= time < END:
        raise ValueError(f"`created_at` is {to_rfc3339(time)}, from 2000 to before 2100 is allowed")
    payload = bytes(event.payload)
    if payload[:1] not in (b"{", b"n"):
        raise ValueError("`payload` is not a JSON object")
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"`payload` has {len(payload)} bytes; at most {MAX_PAYLOAD} are allowed")
    if has_wide_number(payload):
        raise ValueError(
            f"`payload` has a number of more than {MAX_NUMBER} characters when written out, or with an exponent that is"
            f" not within {MIN_EXPONENT} to {MAX_EXPONENT}"
        )


#: A text, which may look like a number inside, or a number: what is before the point, after it, and the exponent.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-?([0-9]++)(?:\.([0-9]++))?(?:[eE]([-+]?[0-9]++))?', re.DOTALL)
#: Digits and points alike, both signs, both cases of the e, and all else: what is left to look for are plain bytes.
_SHAPE = bytes(48 if n in b"0123456789." else 45 if n in b"+-" else 101 if n in b"eE" else 32 for n in range(256))
#: With an exponent of two digits so many are written out as more than is allowed.
_RUN = b"0" * (MAX_NUMBER - 99)


def has_wide_number(payload: bytes) -> bool:
    """Whether a JSON value has a number, outside of its texts, of more characters or a larger exponent than allowed.

    >>> has_wide_number(b'{"a": 1e309}'), has_wide_number(b'{"a": "1e309"}')
    (True, False)
    """
    return may_have_wide_number(payload) and any(
        _is_wide(*match.groups(b"")) for match in _TOKEN.finditer(payload) if match[1]
    )


def may_have_wide_number(payloads: bytes) -> bool:
    """Whether JSON values, with spaces between them, have to be looked at: nearly none, in a tenth of the time."""
    shape = payloads.translate(_SHAPE)
    return b"0e000" in shape or b"0e-000" in shape or (len(payloads) >= len(_RUN) and _RUN in shape)


def _is_wide(whole: bytes, fraction: bytes, exponent: bytes) -> bool:
    power = exponent.lstrip(b"+-").lstrip(b"0")
    shift = int(power[:4] or b"0") * (-1 if exponent[:1] == b"-" else 1)
    if not MIN_EXPONENT <= shift <= MAX_EXPONENT:
        return True
    return max(len(whole) + shift, 1) + max(len(fraction) - shift, 0) > MAX_NUMBER
