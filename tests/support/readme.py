"""The README's shell blocks, to be run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.wait import PATIENCE_S

ROOT = Path(__file__).parents[2]


def shell_blocks(title: str) -> list[str]:
    """The shell blocks of one section."""
    section = (ROOT / "README.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)


def run(block: str, environ: dict[str, str]) -> bytes:
    """A block's output; with an error where any command of it fails."""
    path = f"{Path(sys.executable).parent}:{environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", block],
        env=environ | {"PATH": path},
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=True,
    ).stdout


def pasted(block: str, environ: dict[str, str]) -> list[Any]:
    """Runs a block of commands as a whole and returns each command's output, decoded from JSON. On a slow machine the
    last command's `after` may answer that it is behind; then that command alone runs again.
    """
    found = _values(run(block, environ).decode())
    while found[-1].get("status") == "behind":
        found[-1:] = _values(run(block.splitlines()[-1], environ).decode())
    return found


def _values(text: str) -> list[Any]:
    decoder = json.JSONDecoder()
    found, at = [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found
