"""The tutorial "Add a count", done as it stands there on a copy of weir."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from command import started, weir

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial/add-a-count.md"


def blocks(language: str) -> list[tuple[str, str]]:
    """The page's blocks that name a file: its path, and what follows."""
    return re.findall(rf"^```{language}\n# (\S+)\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def patch(text: str, diff: str) -> str:
    """The text with a block of lines replaced as the diff says."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    assert text.count(before) == 1, diff
    return text.replace(before, "".join(line[1:] for line in lines if not line.startswith("-")))


@pytest.fixture
def copy(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    """An environment in which `weir` is a copy that has learnt what the page teaches."""
    for package in ("schemas", "producers", "streams", "consumers", "infra"):
        shutil.copytree(ROOT / package, tmp_path / "weir" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in blocks("python"):
        (tmp_path / "weir" / path).write_text(text)
    for path, diff in blocks("diff"):
        file = tmp_path / "weir" / path
        file.write_text(patch(file.read_text(), diff))
    return environ | {"PYTHONPATH": str(tmp_path / "weir"), "PYTHONSAFEPATH": "1"}


def test_the_page_adds_a_count_that_works(copy: dict[str, str]) -> None:
    commands = re.findall(r"^\$ echo '(.*)' \| weir (produce .*)\n(.*)$", PAGE.read_text(), re.M)
    assert len(commands) == 2
    [shown] = re.findall(r"^```json\n(.*)\n```", PAGE.read_text(), re.M)
    assert len(blocks("diff")) == 4

    with started(copy, "worker", "pages") as worker:
        worker.wait_for_error_line(b"tasks.assigned")
        for event, command, answer in commands:
            said = weir(copy, *command.split(), stdin=event.encode())
            assert said.stdout.decode().strip() == answer, said.stderr
        with started(copy, "tail", "page-counts", "--from-beginning", "--json") as tail:
            tail.wait_for(lambda: any(latest(tail.out)["views"] == 2 for _ in tail.out[-1:]))
            assert latest(tail.out) == json.loads(shown)
        assert worker.interrupt() == 0


def latest(lines: list[bytes]) -> dict[str, Any]:
    """The value of the last record."""
    value = json.loads(lines[-1])["value"]
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found
