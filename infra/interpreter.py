"""The interpreter's settings for processes that have many records in hand, in several threads."""

from __future__ import annotations

import gc
import sys

#: How many objects may be made between two looks for cycles. At the default of 700 the messages of Kafka's client and
#: what is made of them, which hold no cycles, are looked through again and again.
GARBAGE = 100_000
#: How long a thread may keep the interpreter while another waits. At the default of 5 ms a thread that waits for a
#: server's answers is kept waiting for the interpreter most of its time.
SWITCH_S = 0.0005


def for_many_records() -> None:
    """Sets this process's garbage collector and its switch interval. Called once all is imported."""
    gc.freeze()
    gc.set_threshold(GARBAGE)
    sys.setswitchinterval(SWITCH_S)
