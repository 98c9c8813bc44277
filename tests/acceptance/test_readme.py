"""The README's first steps, as they stand there, on a weir that runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from command import PATIENCE_S, json_lines, started, weir

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


def test_the_first_steps_do_what_they_say(environ: dict[str, str]) -> None:
    environ |= {"WEIR_LINKS_WINDOW": "3s", "WEIR_LINKS_GRACE": "1s"}  # so that a window ends while the test waits
    start, send, see, ask = shell_blocks("First steps")
    assert start == ". .venv/bin/activate\nweir up\n"
    with started(environ, "up") as up:
        up.wait_for(lambda: any(b"Ctrl-C ends everything" in line for line in up.out))

        assert run(send, environ) == b"accepted 1, refused 0\naccepted 1, refused 0\n"

        [record] = json_lines(run(see, environ))
        count = {name: record["value"][name] for name in ("source", "destination", "count")}
        assert count == {"source": "shop", "destination": "billing", "count": 1}

        up.wait_for(lambda: "shop" in weir(environ, "links", "--json").stdout.decode())
        links, curl = ask.splitlines()
        assert b"shop" in run(links, environ)
        command, url = curl.rsplit(" ", 1)
        assert (command, url) == ("curl -s", "http://127.0.0.1:8000/links")
        with urllib.request.urlopen(url.replace("8000", environ["WEIR_API_PORT"])) as answer:
            windows = json.load(answer)
        assert [window["links"] for window in windows if window["links"]] == [[count]]

        assert up.interrupt() == 0
