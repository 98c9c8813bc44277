"""The command `weir` as a process, for tests: run to its end, or started and watched. `anew`: by a new interpreter."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from support.processes import start
from support.wait import PATIENCE_S, until

_WAITS = re.compile(rb"weir: waiting for (Kafka|Postgres) at ")


def weir(
    environ: dict[str, str], *arguments: str, stdin: bytes = b"", cwd: Path | None = None, anew: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command to its end, in the folder `cwd`. That it waits for a server, which a command says after a second
    and a busy machine makes it say anywhere, is left out of its standard error.
    """
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = start(environ, arguments, stdin=given, stdout=out, stderr=err, cwd=cwd, anew=anew)
        try:
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        lines = [line for line in err.read().splitlines(keepends=True) if not _WAITS.match(line)]
        return subprocess.CompletedProcess(process.args, code, out.read(), b"".join(lines))


def json_lines(output: bytes) -> list[Any]:
    """Every line of the output, decoded."""
    return [json.loads(line) for line in output.splitlines()]


def at_a_terminal(environ: dict[str, str], answer: bytes, *arguments: str) -> int:
    """The exit code of a command whose question is answered with that."""
    master, slave = pty.openpty()
    try:
        process = start(environ, arguments, stdin=slave, stderr=slave)
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
        try:
            until(condition)
        except AssertionError as e:
            raise AssertionError(self.out, self.err) from e

    def wait_for_error_line(self, text: bytes) -> None:
        """Returns once a line on standard error holds the text."""
        self.wait_for(lambda: any(text in line for line in self.err))

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def terminate(self) -> None:
        """SIGTERM, and its end in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.err

    def end(self) -> int:
        """Waits for the end; the exit code."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code


@contextmanager
def watched(process: subprocess.Popen[bytes]) -> Iterator[Running]:
    """A process with pipes in the background; killed at the end where it still runs."""
    running = Running(process)
    try:
        yield running
    finally:
        process.kill()
        running.end()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def started(environ: dict[str, str], *arguments: str, cwd: Path | None = None, anew: bool = False) -> Iterator[Running]:
    """A command in the background, in the folder `cwd`; killed at the end where it still runs."""
    pipe = subprocess.PIPE
    process = start(environ, arguments, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, session=True, anew=anew)
    with watched(process) as running:
        yield running
