"""How a feed does: the state of its connection and the facts of its reader together."""

from __future__ import annotations

from collections.abc import Callable

Fact = str | int | float | bool | None


class FeedStatus:
    """Puts the connection's state and the reader's facts together, and calls `changed` with both where they are others.

    The state is `starting` (never connected yet), `running`, `reconnecting`, or, while connected, `waiting` (the
    reader cannot go on, `waiting_for` says what for); the fact `connection` is `connecting`, `connected` or
    `reconnecting`.
    """

    def __init__(self, changed: Callable[[str, dict[str, Fact]], object]) -> None:
        self._changed = changed
        self._connected = "starting"
        self._connection: dict[str, Fact] = {}
        self._reader: dict[str, Fact] = {}
        self._told: tuple[str, dict[str, Fact]] | None = None

    @property
    def state(self) -> str:
        """`starting`, `running`, `reconnecting` or `waiting`."""
        waits = self._connected == "running" and self._reader.get("waiting_for")
        return "waiting" if waits else self._connected

    def facts(self) -> dict[str, Fact]:
        """The facts of the connection and of the reader."""
        return self._connection | self._reader

    def connection(self, state: str, **facts: Fact) -> None:
        """Replaces the connection's part."""
        self._connected, self._connection = state, facts
        self._tell()

    def reader(self, **facts: Fact) -> None:
        """Replaces the reader's part. `waiting_for` names what it waits for, where it does."""
        self._reader = facts
        self._tell()

    def _tell(self) -> None:
        if (now := (self.state, self.facts())) != self._told:
            self._told = now
            self._changed(*now)
