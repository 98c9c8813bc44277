"""Where the cells of a windowed table are kept. `rocks` is the other place, for more than memory holds comfortably."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from typing import Any, Protocol

from streams.engine.aggregation import Key

Cells = MutableMapping[Key, Any]


class Table(Protocol):
    """Window start to key to state. What a `flush` was begun for is kept for good once it is `committed`."""

    def restore(self, metadata: str) -> bool:
        """Whether the table holds just what was committed with this metadata, so that nothing has to be read back; if it
        does not, it is empty.
        """

    def windows(self) -> Collection[int]:
        """The starts of the windows that have cells."""

    def cells(self, window: int) -> Cells:
        """A window's cells, to be read and changed; none where there are none yet."""

    def drop(self, window: int) -> None:
        """Forgets a window."""

    def flush(self, metadata: str) -> None:
        """All changes until now are being committed, with this metadata."""

    def committed(self) -> None:
        """They are."""


class MemoryTable:
    """Plain dicts."""

    def __init__(self) -> None:
        self._windows: dict[int, dict[Key, Any]] = {}

    def restore(self, metadata: str) -> bool:
        return False

    def windows(self) -> Collection[int]:
        return self._windows.keys()

    def cells(self, window: int) -> dict[Key, Any]:
        found = self._windows.get(window)
        if found is None:
            found = self._windows[window] = {}
        return found

    def drop(self, window: int) -> None:
        del self._windows[window]

    def flush(self, metadata: str) -> None:
        """What is in memory is rebuilt from the changelog alone."""

    def committed(self) -> None:
        """See flush."""
