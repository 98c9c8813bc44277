"""Status of each service: one small JSON file per service under `WEIR_HOME/run`, replaced whole.

`weir status` reads them. A file rather than a port, so that a service without an endpoint can be asked, and so that
what was last said is still there when the service is not.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from pathlib import Path

import msgspec
import psutil

from weir.infra import log
from weir.infra.config import Config
from weir.infra.runtime.private import private_folder

_FULL = (errno.ENOSPC, errno.EDQUOT)
#: The unit of `st_blocks`, whatever the filesystem's blocks are.
_BLOCK = 512
_log = log.get_logger(__name__)
#: The states of a service that has ended: since it may not go on, of which no restart makes anything else; or since
#: something has failed.
REFUSED, FAILED = "refused", "failed"


class ServiceStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service: `state` is one word (starting, running, reconnecting, waiting, stopped, failed, refused).

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

        On a full disk it is written over what was said before, cut to the room that this has. What cannot be written
        at all is logged: nobody stops working because of it.
        """
        process = psutil.Process(self._pid)
        status = ServiceStatus(self._name, state, process.pid, process.create_time(), self.address, detail)
        try:
            self._write(status)
        except OSError as e:
            _log.warning("status.not_written", status=self._name, state=state, error=str(e))

    def _write(self, status: ServiceStatus) -> None:
        fresh = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            private_folder(self._path.parent.parent)
            self._path.parent.mkdir(exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(status))
            fresh.replace(self._path)
        except OSError as e:
            fresh.unlink(missing_ok=True)
            if e.errno not in _FULL:
                raise
            self._write_over(status)

    def _write_over(self, status: ServiceStatus) -> None:
        """Into the blocks that the file has, which are still its own. Raises OSError where they are too few."""
        with self._path.open("r+b", buffering=0) as file:
            held = os.fstat(file.fileno())
            # Spaces at the end, so that no end of what stood there is read.
            content = _fitting(status, max(held.st_size, held.st_blocks * _BLOCK)).ljust(held.st_size)
            written = file.write(content)
            if written < len(content):  # there is less room than the filesystem says: what is cut is not left there
                file.seek(0)
                content = _fitting(status, written).ljust(written)
                if file.write(content) < written:
                    raise _no_room(written)
                file.truncate(written)

    def remove(self) -> None:
        """Forgets the service; called when it stops in order."""
        self._path.unlink(missing_ok=True)


def _fitting(status: ServiceStatus, size: int) -> bytes:
    """As `shortened`. Raises OSError where there is no such form."""
    content = shortened(status, size)
    if content is None:
        raise _no_room(size)
    return content


def _no_room(size: int) -> OSError:
    return OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, and the file has only {size} bytes")


def shortened(status: ServiceStatus, size: int) -> bytes | None:
    """A status as JSON of at most `size` bytes: its long texts are cut, or else its detail is left out.

    None where that is too long as well.
    """
    whole = msgspec.json.encode(status)
    if len(whole) <= size:
        return whole
    texts = [value for value in status.detail.values() if isinstance(value, str)]
    longest = max(map(len, texts), default=0)
    # Lengths that were seen to fit are below the place found: what is there fits, however texts are escaped.
    place = bisect_right(range(longest), size, key=lambda limit: len(msgspec.json.encode(_cut(status, limit))))
    form = _cut(status, place - 1) if place else msgspec.structs.replace(status, detail={})
    content = msgspec.json.encode(form)
    return content if len(content) <= size else None


def _cut(status: ServiceStatus, limit: int) -> ServiceStatus:
    """Returns the status with the texts of its detail cut to `limit` characters and a mark."""
    cut = {
        name: value[:limit] + "…" if isinstance(value, str) and len(value) > limit else value
        for name, value in status.detail.items()
    }
    return msgspec.structs.replace(status, detail=cut)


def read_all(config: Config) -> list[ServiceStatus]:
    """Returns the last status of every service; without a living process a service is `stopped`."""
    found = [_read(path) for path in sorted(_folder(config).glob("*.json"))]
    return [status for status in found if status is not None]


def read_one(config: Config, name: str) -> ServiceStatus | None:
    """Returns the last status of one service, as `read_all` does; None if it has written none."""
    return _read(_folder(config) / f"{name}.json")


def last_words(config: Config, name: str) -> ServiceStatus | None:
    """Returns the last status of one service as it was written; None if it has written none."""
    return _said(_folder(config) / f"{name}.json")


def _read(path: Path) -> ServiceStatus | None:
    status = _said(path)
    if status is None or _alive(status):
        return status
    # Why one has ended is for whoever comes to look after that.
    return status if status.state in (REFUSED, FAILED) else msgspec.structs.replace(status, state="stopped")


def _said(path: Path) -> ServiceStatus | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServiceStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # removed or not ours


def _alive(status: ServiceStatus) -> bool:
    try:
        process = psutil.Process(status.pid)
        # In a container nobody may ever collect a dead process whose parent has died as well.
        return abs(process.create_time() - status.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _folder(config: Config) -> Path:
    return config.home / "run"
