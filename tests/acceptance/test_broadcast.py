"""The README's broadcast, its commands as they stand there, on a weir that runs.

websocat and wscat are used where they are installed; elsewhere a stand-in takes their command lines.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from command import Running, started
from infra.config import Config
from infra.status import read_all
from test_readme import run, shell_blocks

STAND_IN = Path(__file__).with_name("websocket_tool.py")
PORTS = {"8080": "WEIR_LISTENER_PORT", "8081": "WEIR_BROADCASTER_PORT", "3000": "WEIR_BROADCAST_PORT"}


@pytest.fixture
def tools(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment with both tools on its path."""
    for name in ("websocat", "wscat"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {name} "$@"\n')
        tool.chmod(0o755)
    return environ | {"PATH": f"{environ['PATH']}:{tmp_path / 'bin'}"}


@contextmanager
def typed(command: str, environ: dict[str, str]) -> Iterator[Running]:
    """A command of the README's in a shell of its own, at this weir's ports."""
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


def count(config: Config, fact: str) -> object:
    """How many senders or subscribers there are."""
    return next((s.detail.get(fact) for s in read_all(config) if s.name == "broadcast"), None)


def test_what_the_readme_sends_reaches_everyone(environ: dict[str, str], tools: dict[str, str], config: Config) -> None:
    [receive], [send], [receive_too, send_too], ours = [block.splitlines() for block in shell_blocks("Broadcast")]
    with ExitStack() as stack:
        up = stack.enter_context(started(environ, "up"))
        up.wait_for(lambda: any(b"Ctrl-C ends everything" in line for line in up.out))
        subscribers = [stack.enter_context(typed(command, tools)) for command in (receive, receive, receive_too)]
        up.wait_for(lambda: count(config, "subscribers") == 3)
        for number, command in enumerate((send, send_too), 1):
            sender = stack.enter_context(typed(command, tools))
            up.wait_for(lambda wanted=number: count(config, "senders") == wanted)  # type: ignore[misc]
            text = f"message {number}".encode()
            assert sender.process.stdin is not None
            sender.process.stdin.write(text + b"\n")
            sender.process.stdin.flush()
            for subscriber in subscribers:
                subscriber.wait_for(lambda by=subscriber, text=text: text in b"".join(by.out))  # type: ignore[misc]
        assert run("\n".join(ours), environ) == b"acknowledged 1 of 1\nhello\n"
        assert up.interrupt() == 0


def test_the_user_in_the_readme_is_the_default_one(environ: dict[str, str], tools: dict[str, str]) -> None:
    _, [send], _, _ = [block.splitlines() for block in shell_blocks("Broadcast")]
    wrong = send.replace("dXNlcjpwd2Q=", "dXNlcjp3cm9uZw==")
    assert wrong != send
    with started(environ, "run", "broadcast") as service:
        service.wait_for(lambda: any(b"broadcast.running" in line for line in service.err))
        with typed(wrong, tools) as sender:
            sender.wait_for(lambda: b"401" in b"".join(sender.err))
            assert sender.end() != 0
