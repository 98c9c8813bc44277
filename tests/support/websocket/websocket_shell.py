"""Commands with websocat or wscat, as a page shows them, in a shell of their own.

Both are used where they are installed; elsewhere a stand-in takes their command lines.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.command import Running
from support.websocket import websocket_tool

STAND_IN = Path(websocket_tool.__file__)
PORTS = {"8080": "WEIR_LISTENER_PORT", "8081": "WEIR_BROADCASTER_PORT", "3000": "WEIR_BROADCAST_PORT"}


def with_websocket_tools(environ: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment with both tools on its path."""
    for name in ("websocat", "wscat"):
        tool = folder / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {name} "$@"\n')
        tool.chmod(0o755)
    return environ | {"PATH": f"{environ['PATH']}:{folder / 'bin'}"}


@contextmanager
def typed(command: str, environ: dict[str, str]) -> Iterator[Running]:
    """A command of a page's in a shell of its own, at this weir's ports."""
    for port, variable in PORTS.items():
        command = command.replace(f"localhost:{port}/", f"localhost:{environ[variable]}/")
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        process.kill()  # the shell has become the command
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
