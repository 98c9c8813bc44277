"""Status file of a feed: the state of its connection and the facts of its reader together."""

from __future__ import annotations

from weir.infra.runtime.status import StatusFile

Fact = str | int | float | bool | None


class FeedStatus:
    """Puts the connection's state and the reader's facts together.

    The state is `starting` (never connected yet), `running`, `reconnecting`, or, while connected, `waiting` (the
    reader cannot go on, `waiting_for` says what for); the detail `connection` is `connecting`, `connected` or
    `reconnecting`. The file is written only where something changed.
    """

    def __init__(self, file: StatusFile) -> None:
        self._file = file
        self._state = "starting"
        self._connection: dict[str, Fact] = {}
        self._reader: dict[str, Fact] = {}
        self._said: tuple[str, dict[str, Fact]] | None = None

    def connection(self, state: str, **facts: Fact) -> None:
        """The connection's part, replaced whole."""
        self._state, self._connection = state, facts
        self._write()

    def reader(self, **facts: Fact) -> None:
        """The reader's part, replaced whole. `waiting_for` names what it waits for, where it does."""
        self._reader = facts
        self._write()

    def _write(self) -> None:
        waiting = self._state == "running" and self._reader.get("waiting_for")
        said = ("waiting" if waiting else self._state, self._connection | self._reader)
        if said != self._said:
            self._file.set(said[0], **said[1])
            self._said = said
