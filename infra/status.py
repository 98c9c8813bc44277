"""What each service says of itself: one small JSON file per service under `WEIR_HOME/run`, replaced whole.

`weir status` reads them. A file rather than a port, so that a service without an endpoint can be asked, and so that
what was last said is still there when the service is not.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import psutil

from infra import log
from infra.config import Config

_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = log.get(__name__)


class ServiceStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service: `state` is one word (starting, running, reconnecting, waiting, stopped, failed).

    `address` is `scheme://host:port` where it listens. `detail` holds facts for people and tests, such as
    `{"attempt": 3, "error": "…", "retry_in_s": 4.0}`. `pid` and `started` (epoch seconds) tell whether it still lives.
    """

    name: str
    state: str
    pid: int
    started: float
    address: str | None = None
    detail: dict[str, str | int | float | bool | None] = {}


class StatusFile:
    """The file of one service in this process, or in process `pid` where another speaks for it."""

    def __init__(self, config: Config, name: str, address: str | None = None, pid: int | None = None) -> None:
        self._path = _folder(config) / f"{name}.json"
        self._name = name
        self.address = address
        self._pid = pid

    def set(self, state: str, **detail: str | int | float | bool | None) -> None:
        """Replaces what is said. Cheap enough for every change of state; not for every message.

        On a full disk it is written over what was said before. What cannot be written at all is logged: nobody stops
        working because of it.
        """
        process = psutil.Process(self._pid)
        status = ServiceStatus(self._name, state, process.pid, process.create_time(), self.address, detail)
        try:
            self._write(msgspec.json.encode(status))
        except OSError as e:
            _log.warning("status.not_written", status=self._name, state=state, error=str(e))

    def _write(self, content: bytes) -> None:
        fresh = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(content)
            fresh.replace(self._path)
        except OSError as e:
            fresh.unlink(missing_ok=True)
            if e.errno not in _FULL:
                raise
            # The block that it has is still its own. Spaces at the end, so that no end of what stood there is read.
            with self._path.open("r+b", buffering=0) as file:
                file.write(content.ljust(os.fstat(file.fileno()).st_size))

    def remove(self) -> None:
        """Forgets the service; called when it stops in order."""
        self._path.unlink(missing_ok=True)


def read_all(config: Config) -> list[ServiceStatus]:
    """What every service last said; one whose process is gone is `stopped`, whatever its file says."""
    found = [_read(path) for path in sorted(_folder(config).glob("*.json"))]
    return [status for status in found if status is not None]


def read_one(config: Config, name: str) -> ServiceStatus | None:
    """What one service last said, as `read_all` has it; None where it said nothing."""
    return _read(_folder(config) / f"{name}.json")


def _read(path: Path) -> ServiceStatus | None:
    try:
        status = msgspec.json.decode(path.read_bytes(), type=ServiceStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # removed or not ours
    return status if _alive(status) else msgspec.structs.replace(status, state="stopped")


def _alive(status: ServiceStatus) -> bool:
    try:
        process = psutil.Process(status.pid)
        # In a container nobody may ever collect a dead process whose parent has died as well.
        return abs(process.create_time() - status.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _folder(config: Config) -> Path:
    return config.home / "run"
