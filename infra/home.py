"""`WEIR_HOME` belongs to one `weir up` at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import psutil

from infra.config import Config
from infra.errors import StartError
from infra.status import read_all


@contextlib.contextmanager
def own_home(config: Config) -> Iterator[None]:
    """Holds the home for as long as the block runs; the kernel gives it back when the process dies.

    Raises StartError where another weir holds it, or where it cannot be written.
    """
    path = config.home / "run" / "weir.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as e:
        raise StartError(f"WEIR_HOME={config.home} cannot be used: {e.strerror}: {e.filename}") from e
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            file.seek(0)
            raise StartError(
                f"weir is already running on {config.home} (pid {file.read().strip()}): `weir status` shows it; "
                "for a second one set WEIR_HOME and WEIR_PORT_BASE"
            ) from e
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        end_leftovers(config)
        yield


def end_leftovers(config: Config, seconds: float = 10.0) -> None:
    """Ends servers of this home that outlived the weir that started them; called while holding the home."""
    left = []
    for status in read_all(config):
        if status.name in ("kafka", "postgres") and status.state != "stopped" and status.pid != os.getpid():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(status.pid)
                process.terminate()
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=seconds)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive)
