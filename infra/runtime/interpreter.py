"""Settings of the interpreter and of its memory, for processes that have many records in hand, in several threads."""

from __future__ import annotations

import ctypes
import gc
import sys

#: How many objects may be made between two looks for cycles. At the default of 700 the messages of Kafka's client and
#: what is made of them, which hold no cycles, are looked through again and again.
GARBAGE = 100_000
#: How long a thread may keep the interpreter while another waits. At the default of 5 ms a thread that waits for a
#: server's answers, or serves requests, is kept waiting for the interpreter most of its time.
SWITCH_S = 0.0005
#: `M_ARENA_MAX` of mallopt(3).
_ARENA_MAX = -8


def share_memory() -> None:
    """Makes all threads of this process allocate from one arena. Call it before other threads start.

    glibc gives each thread an arena of its own. Records are made in one thread and freed in another, so that arenas
    grow with what nobody can use (docs/explanation/engine.md has figures). Where the C library is another, nothing
    changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)


def for_many_records() -> None:
    """Sets this process's garbage collector and its switch interval. Called once all is imported."""
    gc.freeze()
    gc.set_threshold(GARBAGE)
    sys.setswitchinterval(SWITCH_S)
