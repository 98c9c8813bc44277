"""Starts `weir` as a process: forked from one that has imported it, or run anew where that makes a difference."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from support import fork_server
from support.fork_server import NUMBER

COMMAND = [sys.executable, "-P", "-m", "weir"]
_requests = threading.Lock()


class Forked(subprocess.Popen[bytes]):
    """A process of the fork server's, used as any other `Popen`; its pipes are the caller's."""

    def __init__(self, arguments: Sequence[str], own: socket.socket) -> None:
        self._child_created = False  # there is nothing for Popen's own destructor to do
        self._own, self._waiting = own, threading.Lock()
        self.args = arguments
        self.stdin = self.stdout = self.stderr = None
        self.returncode = None  # type: ignore[assignment]
        self.pid = self._number()

    def _number(self) -> int:
        """Raises TimeoutError or BlockingIOError where it is not told yet."""
        if len(told := self._own.recv(NUMBER)) != NUMBER:
            raise AssertionError(f"the fork server ended before it told of {self.args}")
        return int(told)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired."""
        with self._waiting:
            if self.returncode is None:
                self._own.settimeout(timeout)
                try:
                    self.returncode = os.waitstatus_to_exitcode(self._number())
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
                self._own.close()
            return self.returncode


@cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The socket of the fork server, and its process, which ends with the socket."""
    ours, its = socket.socketpair()
    # With one thread: OpenBLAS, which numpy brings, would start as many as there are processors.
    environ = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", fork_server.__file__, str(its.fileno())]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environ, pass_fds=[its.fileno()], stdin=null, start_new_session=True)
    its.close()
    return ours, process


def start(
    environ: Mapping[str, str],
    arguments: Sequence[str],
    *,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: Path | None = None,
    session: bool = False,
    anew: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts the command with these arguments; the streams are as for `Popen`, but for STDOUT.

    `anew` has it run by a new interpreter, where the test is about what is imported. So it is where variables that
    configure the interpreter differ.
    """
    if anew or _interpreter(environ) != _interpreter(os.environ):
        return subprocess.Popen(
            [*COMMAND, *arguments], env=environ, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd,
            start_new_session=session,
        )  # fmt: skip
    request = {"arguments": arguments, "environ": dict(environ), "cwd": cwd and str(cwd), "session": session}
    body = json.dumps(request).encode()
    streams = [_Stream(stream, number) for number, stream in enumerate((stdin, stdout, stderr))]
    ours, its = socket.socketpair()
    with _requests:
        server, _ = _server()
        socket.send_fds(server, [b"%010d" % len(body)], [its.fileno(), *(stream.theirs for stream in streams)])
        server.sendall(body)
    its.close()
    process = Forked([*COMMAND, *arguments], ours)
    process.stdin, process.stdout, process.stderr = (stream.ours() for stream in streams)
    return process


def _interpreter(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(("PYTHON", "LD_", "MALLOC_"))}


class _Stream:
    """One standard stream: the descriptor that the command gets, and the end that the test keeps of a pipe."""

    def __init__(self, stream: int | IO[bytes] | None, number: int) -> None:
        self._pipe: tuple[int, str] | None = None
        self._close = True
        if stream == subprocess.PIPE:
            read, write = os.pipe()
            self.theirs, kept = (read, write) if number == 0 else (write, read)
            self._pipe = kept, "wb" if number == 0 else "rb"
        elif stream == subprocess.DEVNULL:
            self.theirs = os.open(os.devnull, os.O_RDWR)
        else:
            self.theirs = number if stream is None else stream if isinstance(stream, int) else stream.fileno()
            self._close = False

    def ours(self) -> IO[bytes] | None:
        """Returns the test's end of the stream, once the command has its own."""
        if self._close:
            os.close(self.theirs)
        return None if self._pipe is None else open(self._pipe[0], self._pipe[1])
