"""Starts `weir` by forking a process that has imported it: the imports, 0.3 to 2 s of CPU time, are paid once.

Run as a program, with the number of a socket: `python -P fork_server.py 5`. Each request on it starts one command:

    header   b"%010d" % length of the request, with four file descriptors: a socket of the command's own, and its
             standard input, output and error
    request  JSON: {"arguments": [...], "environ": {...}, "cwd": null | str, "session": bool}

The command's socket tells its process id, and its wait status (`os.waitpid`) once it has ended, as b"%020d" each. The
end of the first socket ends the server. What runs is a process like any other: signals, memory, and end are its own.
Not the same as from a shell: what is imported, and that a library that reads the environment while it is imported has
read the server's.
"""

from __future__ import annotations

import gc
import io
import json
import os
import random
import signal
import socket
import sys
import time
from importlib import import_module
from typing import Any, TextIO

NUMBER = 20
#: What commands and services import when they run. Modules that start threads when imported cannot be among them.
PRELOADED = (
    "encodings.idna",
    "faust.app.router",
    "faust.assignor.partition_assignor",
    "faust.fixups.django",
    "faust.tables.manager",
    "faust.topics",
    "numpy.typing",
    "typer._adapters",
    "weir.cli.main",
    "weir.consumers.analytics.tables",
    "weir.consumers.analytics.tenants",
    "weir.consumers.links.tables",
    "weir.consumers.metrics.tables",
    "weir.infra.dead_letters.replay",
    "weir.infra.kafka.lines",
    "weir.infra.kafka.writer",
    "weir.infra.migrations",
    "weir.services.api",
    "weir.services.broadcast",
    "weir.services.feed",
    "weir.services.metrics",
    "weir.services.monitoring",
    "weir.services.overview",
    "weir.services.registry",
    "weir.services.sinks",
    "weir.services.trim_holds",
    "weir.services.up",
    "weir.services.view",
    "weir.streams.engine.worker.worker",
    "weir.streams.jobs.links",
    "weir.streams.jobs.metrics",
    "weir.streams.jobs.monitoring",
    "weir.streams.jobs.monitoring_ids",
)


def serve(server: socket.socket) -> dict[str, Any] | None:
    """Starts one command per request. Returns its request in the command's process, and None where requests end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the commands
    while True:
        header, descriptors, _, _ = socket.recv_fds(server, 10, 4)
        if not header:
            return None
        request = json.loads(_exactly(server, int(header)))
        if os.fork() == 0:
            server.close()
            return _start(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _exactly(server: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        parts.append(server.recv(length))
        length -= len(parts[-1])
    return b"".join(parts)


def _start(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Forks the command's process, in which this returns. This process waits for it, tells of its end, and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    own = socket.socket(fileno=descriptors[0])
    if pid == 0:
        own.close()
        _become(request, descriptors[1:])
        return request
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    os.setsid()
    own.sendall(b"%020d" % pid)
    own.sendall(b"%020d" % os.waitpid(pid, 0)[1])
    os._exit(0)


def _become(request: dict[str, Any], standard: list[int]) -> None:
    if request["session"]:
        os.setsid()
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background has it ignored
    if request["cwd"] is not None:
        os.chdir(request["cwd"])
    sys.argv = ["weir", *request["arguments"]]
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8", errors="surrogateescape")
    sys.stdout, sys.stderr = _output(1, "strict"), _output(2, "backslashreplace")


def _output(number: int, errors: str) -> TextIO:
    lines = number == 2 or os.isatty(number)
    through = bool(os.environ.get("PYTHONUNBUFFERED"))
    raw = io.BufferedWriter(io.FileIO(number, "w"))
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=lines, write_through=through)


def main() -> None:
    """Serves the socket whose number is the argument."""
    server = socket.socket(fileno=int(sys.argv[1]))
    for module in PRELOADED:
        import_module(module)
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise SystemExit(f"an import has started threads ({threads}): a fork would leave their locks locked")
    gc.collect()
    gc.freeze()
    if serve(server) is not None:
        import_module("weir.cli.main").main()


if __name__ == "__main__":
    main()
