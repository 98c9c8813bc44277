"""Times as they travel: RFC 3339 in UTC on the wire, epoch milliseconds inside.

Kafka's record timestamps are epoch milliseconds (KIP-32); windows are aligned to the epoch.
"""

from __future__ import annotations

import datetime as dt
import re

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MILLISECOND = dt.timedelta(milliseconds=1)


def to_rfc3339(epoch_ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC; the fraction is written only where there is one.

    >>> to_rfc3339(60_000), to_rfc3339(1)
    ('1970-01-01T00:01:00Z', '1970-01-01T00:00:00.001Z')

    Raises ValueError outside the years 1 to 9999: a Kafka timestamp can be any 64-bit number.
    """
    try:
        moment = _EPOCH + dt.timedelta(milliseconds=epoch_ms)
    except OverflowError as e:
        raise ValueError(f"{epoch_ms} ms from 1970 is outside the calendar") from e
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds" if epoch_ms % 1000 else "seconds") + "Z"


def readable(epoch_ms: int) -> str:
    """RFC 3339 where the calendar has it, else the number: for showing a time that nobody has checked."""
    try:
        return to_rfc3339(epoch_ms)
    except ValueError:
        return str(epoch_ms)


def from_rfc3339(text: str) -> int:
    """RFC 3339 (with an offset or `Z`) as epoch milliseconds.

    Raises ValueError where the text is no such time, or has no offset.

    >>> from_rfc3339("1970-01-01T00:01:00Z"), from_rfc3339("1970-01-01T01:00:00+01:00")
    (60000, 0)
    """
    if not _RFC3339.fullmatch(text):  # fromisoformat takes all of ISO 8601, and stops reading at a NUL
        why = "has no offset from UTC" if _RFC3339.fullmatch(text + "Z") else "is no time in RFC 3339"
        raise ValueError(f"{text!r} {why}: write it as 2026-01-31T12:00:00Z")
    try:
        moment = dt.datetime.fromisoformat(text.upper())  # RFC 3339 allows a small t and z
    except ValueError as e:
        raise ValueError(f"{text!r} is no time: {e}") from e
    return (moment - _EPOCH) // _MILLISECOND
