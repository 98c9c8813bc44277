"""Child processes as weir starts and ends them: in groups of their own, and never outliving weir."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from weir.infra.supervisor import launch

Process = subprocess.Popen[bytes]


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    output: int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
    signal_at_parents_end: signal.Signals = signal.SIGKILL,
) -> Process:
    """Starts `command` without waiting for it; its output is added to `log`, or goes to the descriptor `output`, or is
    weir's own output.

    With `user`, weir being root, the program runs as that user, without any capability. `cwd` is entered before: the
    program can use its working directory although it may not pass the folders above. `stdin` is what it reads, nothing
    otherwise; `stdout` takes its standard output away from `log`.

    The child has a process group of its own, so that a Ctrl-C in the terminal reaches weir alone, which then ends
    its children in order. Must be called by a thread that lives as long as the child is wanted: to Linux, the
    thread that starts a child is its parent.
    """
    shim = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(int(signal_at_parents_end)), user or ""]
    with log.open("ab") if log else contextlib.nullcontext(output) as printed:
        return subprocess.Popen(
            [*shim, *map(str, command)],
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or printed,
            stderr=printed,
            cwd=cwd,
            env=env,
            process_group=0,
        )


def end(processes: Mapping[Process, signal.Signals], seconds: float) -> None:
    """Sends each process its signal, all at once, and kills with its group what is left after `seconds`. Blocks."""
    deadline = time.monotonic() + seconds
    for process, number in processes.items():
        if process.poll() is None:
            process.send_signal(number)
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
