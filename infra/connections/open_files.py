"""Open files: as many as the kernel lets this process have."""

from __future__ import annotations

import resource

#: What the process needs besides connections: Kafka's clients, pools, logs, status files.
RESERVE = 200


def available(wanted: int) -> int:
    """How many open files this process may have, after its limit has been raised towards `wanted` as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
