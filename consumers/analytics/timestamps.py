"""Times as they travel to epoch milliseconds, many at once. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from weir.schemas.times import from_rfc3339, timestamp_ms

Moments = npt.NDArray[np.int64]

#: Stands for what is no time; before all that is one.
NEVER = -(2**63)
#: How most are written, with every digit a 0; and what stands in for those that are written otherwise.
_USUAL = b"0000-00-00T00:00:00.000Z"
_OTHER = "?" * len(_USUAL)
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
#: The calendar begins with the year 1; numpy's does not.
_BEGINNING = from_rfc3339("0001-01-01T00:00:00Z")


def moments(times: Sequence[str | int | float]) -> Moments:
    """Epoch milliseconds, of each what `weir.schemas.times.timestamp_ms` gives, or NEVER where that raises ValueError.

    >>> moments(["1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02Z", 3]).tolist()
    [1000, 2000, 3000]
    """
    texts = [time if type(time) is str and len(time) == len(_USUAL) else _OTHER for time in times]
    joined = "".join(texts).encode("ascii", "replace")
    usual = np.frombuffer(joined.translate(_DIGITS), "S24") == _USUAL
    found = np.full(len(times), NEVER, np.int64)
    try:
        # Without the Z: numpy knows no zones, and takes a time for one in UTC.
        parsed = np.frombuffer(joined, "S24")[usual].astype("S23").astype("datetime64[ms]").astype(np.int64)
    except ValueError:  # one of them is not in the calendar, and numpy does not say which
        usual[:] = False
    else:
        found[usual] = np.where(parsed < _BEGINNING, NEVER, parsed)
    _fill(found, times, np.flatnonzero(~usual).tolist())
    return found


def _fill(found: Moments, times: Sequence[str | int | float], places: Iterable[int]) -> None:
    for place in places:
        try:
            found[place] = timestamp_ms(times[place])
        except ValueError:
            found[place] = NEVER
