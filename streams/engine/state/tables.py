"""Where the cells of a windowed table are kept. `rocks` is the other place, for more than memory holds comfortably."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from weir.streams.engine.aggregates.aggregation import Key

#: What a job may say of where its state is kept.
STORES = ("memory", "rocksdb")


class Cells(Protocol):
    """Key to state, as a dict has it. A state that was changed is put again."""

    def get(self, key: Key, default: Any = None, /) -> Any: ...
    def items(self) -> Iterable[tuple[Key, Any]]: ...
    def __getitem__(self, key: Key, /) -> Any: ...
    def pop(self, key: Key, default: Any, /) -> Any: ...
    def __setitem__(self, key: Key, state: Any, /) -> None: ...
    def __delitem__(self, key: Key, /) -> None: ...
    def __iter__(self) -> Iterator[Key]: ...
    def __len__(self) -> int: ...


class StateTable(Protocol):
    """Window start to key to state. What a `flush` was begun for is kept for good once it is `committed`."""

    def restore(self, metadata: str | None) -> bool:
        """Whether the table holds just what was committed with this metadata, so that nothing has to be read back; if
        it does not, it is empty. Called once, first; None: nothing was ever committed.
        """

    def restored(self) -> None:
        """Called once the changelog of the restored metadata has been read back into the cells."""

    def windows(self) -> Collection[int]:
        """The starts of the windows that have cells."""

    def cells(self, window: int) -> Cells:
        """A window's cells, to be read and changed; none where there are none yet."""

    def fetched(self, window: int, keys: Sequence[Key]) -> MutableMapping[Key, Any]:
        """A window's cells of these keys, each of which is about to be put: no others may be read or put."""

    def drop(self, window: int) -> None:
        """Forgets a window."""

    def flush(self, metadata: str) -> None:
        """Called when all changes so far are about to be committed, with this metadata."""

    def committed(self) -> None:
        """Called once the changes passed to `flush` are committed."""

    def close(self) -> None:
        """Lets go of what it holds outside memory. Called at any time, from any thread, also twice."""


class MemoryTable:
    """Plain dicts."""

    def __init__(self) -> None:
        self._windows: dict[int, dict[Key, Any]] = {}

    def restore(self, metadata: str | None) -> bool:
        return False

    def restored(self) -> None:
        """Nothing to be noted."""

    def windows(self) -> Collection[int]:
        return self._windows.keys()

    def cells(self, window: int) -> dict[Key, Any]:
        found = self._windows.get(window)
        if found is None:
            found = self._windows[window] = {}
        return found

    def fetched(self, window: int, keys: Sequence[Key]) -> dict[Key, Any]:
        return self.cells(window)

    def drop(self, window: int) -> None:
        del self._windows[window]

    def flush(self, metadata: str) -> None:
        """Does nothing: a table in memory is always rebuilt from the changelog."""

    def committed(self) -> None:
        """See flush."""

    def close(self) -> None:
        """Nothing is held."""


def open_table(
    store: str,
    folder: Path | None,
    dump: Callable[[Any], Any],
    load: Callable[[Any], Any],
    key: Any = tuple[str, ...],
) -> StateTable:
    """A table of one of STORES: in `folder`, for None in one of its own, if not in memory. See `RocksTable`."""
    if store == "memory":
        return MemoryTable()
    from weir.streams.engine.state.rocks import RocksTable  # loads RocksDB, so only where it is wanted
    from weir.streams.engine.state.rocks_store import RocksStore

    return RocksTable(RocksStore(folder), dump, load, key)
