"""The README's shell blocks, to be run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from command import PATIENCE_S

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
