"""`WEIR_HOME` belongs to one `weir up` at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Container, Iterator

import psutil

from weir.infra.config import Config
from weir.infra.errors import StartError
from weir.infra.runtime.private import private_home
from weir.infra.runtime.status import StatusFile, read_all


@contextlib.contextmanager
def own_home(config: Config, embedded: Container[str]) -> Iterator[None]:
    """Holds the home for as long as the block runs; the kernel gives it back when the process dies.

    `embedded` are the names of the servers that weir runs itself.
    Other users cannot enter it from here on. Raises StartError where another weir holds it, where it cannot be written,
    or where others could enter it all the same (`weir.infra.runtime.private`).
    """
    private_home(config)
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
        end_leftovers(config, embedded)
        yield


def end_leftovers(config: Config, embedded: Container[str], seconds: float = 10.0) -> None:
    """Ends the `embedded` servers that outlived the weir that started them, and removes the status of stopped services.

    Called while holding the home. Services that were started by hand live on.
    """
    left = []
    for status in read_all(config):
        if status.state == "stopped":
            StatusFile(config, status.name).remove()
        elif status.name in embedded:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(status.pid)
                process.terminate()
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=seconds)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive)
