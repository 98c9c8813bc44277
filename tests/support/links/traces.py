"""The recorded production traces that the pipeline is accepted with, and what must be counted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

#: Beside the checkout: too large for it, and not weir's own.
DATA = Path(__file__).parents[4] / "shared" / "data"
FEED = DATA / "traces.feed.ndjson"

Pair = tuple[str, str]


def messages() -> Iterator[tuple[float, Any]]:
    """(seconds since the start, message) of the recorded feed, in order."""
    for line in FEED.read_bytes().splitlines():
        recorded = msgspec.json.decode(line)
        yield recorded["at"], recorded["message"]


def truth() -> Counter[tuple[int, str, str]]:
    """Calls per (minute, source parent, destination parent)."""
    cells = msgspec.json.decode((DATA / "traces.truth.json").read_bytes())
    return Counter({(c["minute"], c["source"], c["destination"]): c["count"] for c in cells})


def totals() -> Counter[Pair]:
    """Calls per (source parent, destination parent) over all minutes."""
    found: Counter[Pair] = Counter()
    for (_, source, destination), count in truth().items():
        found[source, destination] += count
    return found
