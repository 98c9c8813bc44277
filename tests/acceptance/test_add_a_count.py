"""The tutorial "Add a count", done as it stands there on a copy of weir."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError

import pytest

from support.command import started, weir
from weir.infra.config import Config

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


def teach(root: Path) -> None:
    """Does what the page says to a copy of weir."""
    examples = re.findall(r"`(\S+)`:\n\n```json\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(examples) == 1
    for path, text in [*blocks("python"), *examples]:
        (root / path).write_text(text)
    for path, diff in blocks("diff"):
        (root / path).write_text(patch((root / path).read_text(), diff))


@pytest.fixture
def copy(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    """An environment in which `weir` is a copy that has learnt what the page teaches."""
    for folder in ("weir", "schemas", "producers", "streams", "consumers", "infra"):
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "weir" / folder, symlinks=True, ignore=without)
    teach(tmp_path / "weir")
    return environ | {"PYTHONPATH": str(tmp_path / "weir"), "PYTHONSAFEPATH": "1"}


def test_the_page_adds_a_count_that_works(copy: dict[str, str], environ: dict[str, str], config: Config) -> None:
    commands = re.findall(r"^\$ echo '(.*)' \| weir (produce .*)\n(.*)$", PAGE.read_text(), re.M)
    assert len(commands) == 2
    [shown] = re.findall(r"^```json\n(.*)\n```", PAGE.read_text(), re.M)
    assert len(blocks("diff")) == 3

    # The API is one that has never heard of the job.
    with started(environ, "run", "api") as api, started(copy, "worker", "pages") as worker:
        worker.wait_for_error_line(b"tasks.assigned")
        for event, command, answer in commands:
            said = weir(copy, *command.split(), stdin=event.encode())
            assert said.stdout.decode().strip() == answer, said.stderr
        with started(copy, "tail", "page-counts", "--from-beginning", "--json") as tail:
            tail.wait_for(lambda: any(latest(tail.out)["views"] == 2 for _ in tail.out[-1:]))
            # The window closes by itself once the partitions are idle: on a slow machine before the tail has begun.
            assert latest(tail.out) | {"final": False} == json.loads(shown)
        api.wait_for_error_line(b"api.running")
        paths = re.findall(r"^\$ curl -s http://127.0.0.1:8000(/tables/page-counts\S*)$", PAGE.read_text(), re.M)
        address = f"http://127.0.0.1:{config.api.port}"
        table, home = (json.loads(request.urlopen(address + path).read()) for path in paths)
        assert (table["job"], table["key"], table["state"]) == ("pages", ["page"], "running")
        assert [cell["value"]["views"] for cell in home["cells"]] == [2]
        assert worker.interrupt() == 0
        with pytest.raises(HTTPError, match="503"):  # known, and away
            request.urlopen(address + paths[1])


def test_the_unit_tests_of_topics_and_pages_pass_after_the_page_is_followed(tmp_path: Path) -> None:
    """`make test` on what a reader has then: what of it looks at the list of topics, and at the code's form."""
    left = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")
    copied = shutil.copytree(ROOT, tmp_path / "weir", symlinks=True, ignore=left)
    teach(copied)
    concerned = [
        "tests/unit/schemas/test_schemas_examples.py",
        "tests/unit/schemas/test_topics.py",
        "tests/unit/weir/test_docs.py",
    ]
    without = "not test_every_command and not test_every_variable and not test_every_page"
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider", "-k", without, *concerned],
        ["ruff", "check", "--quiet", "."],
        ["ruff", "format", "--check", "."],
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", *command],
            cwd=copied,
            env=os.environ | {"PYTHONPATH": str(copied)},
            capture_output=True,
            timeout=170,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode()


def latest(lines: list[bytes]) -> dict[str, Any]:
    """The value of the last record."""
    value = json.loads(lines[-1])["value"]
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found
