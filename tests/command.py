"""The command `weir` as a process, for tests: run to its end, or started and watched."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

COMMAND = [sys.executable, "-m", "infra.cli.main"]
#: How long any of these commands may take on a busy machine.
PATIENCE_S = 60


def weir(environ: dict[str, str], *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environ, input=stdin, capture_output=True, timeout=PATIENCE_S, check=False
    )


def json_lines(output: bytes) -> list[Any]:
    """Every line of the output, decoded."""
    return [json.loads(line) for line in output.splitlines()]


def at_a_terminal(environ: dict[str, str], answer: bytes, *arguments: str) -> int:
    """The exit code of a command whose question is answered with that."""
    master, slave = pty.openpty()
    try:
        with subprocess.Popen([*COMMAND, *arguments], env=environ, stdin=slave, stderr=slave) as process:
            os.write(master, answer)
            return process.wait(PATIENCE_S)
    finally:
        os.close(slave)
        os.close(master)


class Running:
    """A command that runs: its lines so far, and a wait for one of them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out: list[bytes] = []
        self.err: list[bytes] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,), daemon=True)
            for lines, pipe in ((self.out, process.stdout), (self.err, process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns once the condition holds. Raises AssertionError with the output where that takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.out, self.err)
            threading.Event().wait(0.02)

    def wait_for_error_line(self, text: bytes) -> None:
        """Returns once a line on standard error holds the text."""
        self.wait_for(lambda: any(text in line for line in self.err))

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def terminated(self) -> float:
        """Seconds that it took to end after SIGTERM, in order."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.err
        return time.monotonic() - begun

    def end(self) -> int:
        """Waits for the end; the exit code."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code


@contextmanager
def started(environ: dict[str, str], *arguments: str) -> Iterator[Running]:
    """A command in the background; killed at the end where it still runs."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running = Running(process)
    try:
        yield running
    finally:
        process.kill()
        running.end()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
