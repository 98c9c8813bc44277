"""Packages of users' own: what they declare comes into the registries, and what contradicts is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import weir
from support.engine.page_views import PAGES, pages
from weir.consumers import registry as consumers
from weir.infra.config import Config, load
from weir.infra.errors import ConfigError
from weir.schemas import topics
from weir.schemas.errors import DuplicateTopicError
from weir.services import apps
from weir.services.registry import services
from weir.streams.jobs import registry as jobs

VISITS = weir.Topic("visits", "producers", "Visits", "free", dict)


def views(config: Config) -> Any:
    """Counts page views. By page."""
    return pages("tumbling")


def stored(config: Config) -> list[weir.Table]:
    """Writes pages to Postgres."""
    return [weir.Table(topic=PAGES, name="pages", columns={"page": "text"}, key=("page",), row=lambda one, _: (one,))]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registries that forget after the test what it adds."""
    monkeypatch.setattr(topics, "TOPICS", list(topics.TOPICS))
    monkeypatch.setattr(jobs, "JOBS", deepcopy(jobs.JOBS))
    monkeypatch.setattr(consumers, "SINKS", deepcopy(consumers.SINKS))
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An empty module `of_a_user`."""
    made = ModuleType("of_a_user")
    monkeypatch.setitem(sys.modules, "of_a_user", made)
    return made


def name_of(job: Any) -> str:
    return str(job.name)


def test_jobs_sinks_and_topics_of_an_app_are_weirs(module: ModuleType) -> None:
    name = name_of(views(Config()))
    module.app = weir.App(jobs={name: views}, stores={"pages-store": stored}, topics=[VISITS])  # type: ignore[attr-defined]
    apps.load(load({"WEIR_APPS": "of_a_user"}))
    assert name_of(jobs.make(name, Config())) == name
    assert {"visits", PAGES.name} <= {topic.name for topic in topics.TOPICS}
    found = {service.name: service for service in services()}
    assert found[f"worker-{name}"].command(Config()) == ("worker", name, "--name", f"worker-{name}")
    assert found[f"worker-{name}"].description == "counts page views"
    assert found["pages-store"].command(Config()) == ("run", "pages-store")
    assert found["pages-store"].tables
    assert consumers.readers_of(PAGES) == ["pages-store"]


@pytest.mark.parametrize("attribute", ["job", "made"])
def test_a_job_is_named_by_module_and_attribute(module: ModuleType, attribute: str) -> None:
    module.job, module.made = views, views(Config())  # type: ignore[attr-defined]
    made = apps.job(f"of_a_user:{attribute}", Config())
    assert name_of(made) == name_of(views(Config()))
    assert all(topic in topics.TOPICS for topic in apps.topics_of(made))
    assert jobs.make(made.name, Config()).source == made.source


def test_a_job_of_an_app_that_is_loaded_may_be_named_by_its_attribute(module: ModuleType) -> None:
    module.job = views  # type: ignore[attr-defined]
    apps.register(weir.App(jobs={name_of(views(Config())): views}), Config())
    assert name_of(apps.job("of_a_user:job", Config())) == name_of(views(Config()))


def test_an_app_may_be_named_twice() -> None:
    app = weir.App(jobs={name_of(views(Config())): views}, topics=[VISITS])
    apps.register(app, Config())
    before = len(topics.TOPICS)
    apps.register(app, Config())
    assert len(topics.TOPICS) == before


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module", "no module 'no_such_module', neither installed nor in "),
        ("of_a_user:other", "module 'of_a_user' has no 'other'"),
        ("of_a_user", "WEIR_APPS=of_a_user: of_a_user.app is not a weir.App"),
        ("of a user", "must be module or module:name"),
    ],
)
def test_an_app_that_is_not_there_is_told_in_one_line(module: ModuleType, value: str, said: str) -> None:
    module.app = "something else"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=said):
        apps.load(load({"WEIR_APPS": value}))


def test_what_a_module_of_an_app_raises_itself_is_not_taken_for_a_missing_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_app.py").write_text("import not_installed_either\n")
    with pytest.raises(ModuleNotFoundError, match="not_installed_either"):
        apps.load(load({"WEIR_APPS": "broken_app"}))


def test_names_that_are_taken_are_refused() -> None:
    with pytest.raises(ConfigError, match="two jobs have the name 'links'"):
        jobs.JOBS.register("links", views)
    with pytest.raises(ConfigError, match="two sinks have the name 'link-store'"):
        consumers.SINKS.register("link-store", stored)
    with pytest.raises(
        DuplicateTopicError, match="two topics have the name 'relations', one of producers and one of me"
    ):
        topics.register([weir.Topic("relations", "me", "Mine", "free", dict)])


def test_names_of_an_app_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="the app lists job 'other', whose own name is"):
        apps.register(weir.App(jobs={"other": views}), Config())
    with pytest.raises(ConfigError, match="needs a name that ends in '-store'"):
        apps.register(weir.App(stores={"pages": stored}), Config())
