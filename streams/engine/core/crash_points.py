"""Where a test can let a worker crash: the steps of a flush, and the restore.

Armed by the hidden option `weir worker --crash-at STEP:TOPIC:N`: the process ends at the N-th time that a task of that
source topic reaches the step, as with SIGKILL: nothing is flushed, closed or told to Kafka. It is an option and not a
`WEIR_` variable because a variable is inherited by every process that a worker's parent starts, and would stand in
`weir config`; an option is given to one process, and to none by accident. Not armed, a step costs one comparison.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

#: `before-commit` differs from `after-offsets` in that every record has reached the broker: only the commit is missing.
STEPS = ("before-begin", "after-produce", "after-offsets", "before-commit", "after-commit", "restore")
#: The exit code of a worker that crashed where it was told to.
CRASHED = 86

_armed: tuple[str, str, int] | None = None
_times = count(1)


def arm(place: str) -> None:
    """Lets this process crash at `place`: STEP:TOPIC:N. Raises ValueError where that is none."""
    global _armed
    step, topic, times = place.split(":")
    if step not in STEPS or int(times) < 1:
        raise ValueError(f"crash point {place!r}: STEP is one of {', '.join(STEPS)}, and N is at least 1")
    _armed = step, topic, int(times)


def reached(step: str, topic: str, first: Callable[[], object] = lambda: None) -> None:
    """A task of source `topic` is at `step`: does not return where that is the place. `first` is done before it."""
    if _armed is not None and _armed[:2] == (step, topic) and next(_times) == _armed[2]:
        first()
        os._exit(CRASHED)
