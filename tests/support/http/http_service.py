"""A service of weir's over HTTP, as any client sees it: while it starts again, one waits."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from support.command import Running
from weir.infra.config import Config
from weir.infra.runtime.status import read_all

CURL = Path(__file__).with_name("curl_tool.py")


def with_curl(environ: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment with a `curl` on its path that does what the README needs of one."""
    tool = folder / "bin" / "curl"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CURL}" "$@"\n')
    tool.chmod(0o755)
    return environ | {"PATH": f"{tool.parent}:{environ['PATH']}"}


class HttpService:
    """Asks and tells the service at a port, while `up` runs it."""

    def __init__(self, up: Running, config: Config, port: int) -> None:
        self.up, self._config = up, config
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and answer, once it is neither starting nor away."""
        request = urllib.request.Request(self._url + path, body, {"Content-Type": content_type} if body else {})
        answers: list[tuple[int, Any]] = []

        def answered() -> bool:
            try:
                with urllib.request.urlopen(request) as answer:
                    answers.append((answer.status, json.load(answer)))
            except urllib.error.HTTPError as e:
                if e.code != 503:
                    answers.append((e.code, json.load(e)))
            except OSError:
                pass
            return bool(answers)

        self.up.wait_for(answered)
        return answers[0]

    def kill(self, *services: str) -> None:
        """SIGKILL; weir starts them again."""
        for status in read_all(self._config):
            if status.name in services:
                os.kill(status.pid, signal.SIGKILL)
        for name in services:
            self.up.wait_for_error_line(b"child=" + name.encode() + b" exit_code=-9")
