"""The public names of `import weir`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import weir
from weir.consumers.sinks.table import Table
from weir.infra.config import Config
from weir.schemas.topic import Topic
from weir.streams import api


@pytest.mark.parametrize("name", weir.__all__)
def test_every_public_name_is_there_and_typed(name: str) -> None:
    tree = ast.parse(Path(weir.__file__).read_text())
    typed = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert getattr(weir, name) is not None
    assert name in typed


def test_the_names_are_those_of_jobs_sinks_topics_and_the_configuration() -> None:
    assert set(weir.__all__) >= set(api.__all__)
    assert (weir.Windowed, weir.Table, weir.Topic, weir.Config) == (api.Windowed, Table, Topic, Config)


def test_another_name_is_told_by_its_name() -> None:
    with pytest.raises(AttributeError, match="module 'weir' has no attribute 'Windwed'"):
        weir.Windwed  # noqa: B018
