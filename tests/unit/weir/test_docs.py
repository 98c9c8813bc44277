"""The documentation against the code: commands, options, variables, topics and links that it names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from weir.cli.main import app
from weir.infra import config
from weir.schemas import topics
from weir.schemas.topic import Topic
from weir.services.flows import drawing, flows
from weir.services.registry import services

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yields the words after `weir` of each command in a page's shell blocks."""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S):
        if language not in ("sh", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if language == "console" and not line.startswith("$ "):
                continue  # output
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while "weir" in words:
                words = words[words.index("weir") + 1 :]
                end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), len(words))
                yield words[:end]


@each_page
def test_every_command_that_a_page_shows_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in command_lines(page):
        command = get_command(app)
        context = command.make_context("weir", [], resilient_parsing=True)
        while hasattr(command, "commands"):
            if getattr(command, "invoke_without_command", False) and (not words or words[0].startswith("-")):
                break  # the group is a command itself
            assert words, f"{page}: a command is missing"
            command = command.get_command(context, words[0])
            words = words[1:]
        words = ["-" if word.endswith("calls.ndjson") else word for word in words]  # a file of the reader's
        command.make_context(command.name, words, parent=context)


@each_page
def test_every_variable_that_a_page_names_is_one(page: Path) -> None:
    known = {setting.variable for setting in config.describe({})}
    named = set(re.findall(r"\bWEIR_[A-Z_]+\b", page.read_text()))
    assert named <= known


@each_page
def test_every_page_that_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_make_target_that_the_readme_names_is_there() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"^make ([\w-]+)$|`make ([\w-]+)`", (ROOT / "README.md").read_text(), re.M)
    assert named
    assert {a or b for a, b in named} <= set(targets)


def test_every_folder_is_on_the_map() -> None:
    mapped = set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "README.md").read_text(), re.M))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= mapped
    assert all((ROOT / folder).is_dir() for folder in mapped)


def test_the_drawing_has_each_topic_with_who_writes_it_and_each_service_with_its_topics() -> None:
    """Weir's own topics have a name in `weir.schemas.topics`."""
    own = [topic.name for topic in vars(topics).values() if isinstance(topic, Topic) and not topic.internal]
    assert len(own) >= 10
    drawn = {name.strip(): writers.strip() for writers, name, *_ in (line.split("──▶") for line in drawing())}
    assert set(own) <= drawn.keys()
    assert all(drawn.values())
    assert drawn["link-counts"] == "worker-links"
    assert drawn["relations"] == "feed, any Kafka client"
    assert {flow.service for flow in flows()} == {service.name for service in services()}
