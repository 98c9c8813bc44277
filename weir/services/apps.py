"""Loads what packages of users' own declare (`weir.App`) into the registries of topics, jobs and sinks."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from weir.app import App
from weir.consumers import registry as consumers
from weir.infra.config import Config
from weir.infra.errors import ConfigError
from weir.schemas import topics
from weir.schemas.topic import Topic
from weir.streams.engine.core.job import Job
from weir.streams.jobs import registry as jobs


def load(config: Config) -> None:
    """Registers the apps that WEIR_APPS names. Raises ConfigError where one is not there or names what is taken."""
    for reference in filter(None, (config.apps or "").split(",")):
        module, _, name = reference.strip().partition(":")
        app = imported(module, name or "app")
        if not isinstance(app, App):
            raise ConfigError(f"WEIR_APPS={reference}: {module}.{name or 'app'} is not a weir.App")
        register(app, config)


def register(app: App, config: Config) -> None:
    """Adds an app's topics, jobs and sinks to the registries. Raises ConfigError, DuplicateTopicError."""
    topics.register(app.topics)
    for name, factory in app.jobs.items():
        made = factory(config)
        if made.name != name:
            raise ConfigError(f"the app lists job {name!r}, whose own name is {made.name!r}: use one name")
        topics.register(topics_of(made))
        jobs.JOBS.register(name, factory)
    for name, tables in app.stores.items():
        if not name.endswith("-store"):
            raise ConfigError(f"the sink {name!r} needs a name that ends in '-store'")
        topics.register(table.topic for table in tables(config))
        consumers.SINKS.register(name, tables)


def job(reference: str, config: Config) -> Job:
    """Returns the job of a name in the registry, or of `module:attribute`, which is a job or a function that gives one.

    A job from a module is registered with its topics. Raises ConfigError where there is none.
    """
    module, colon, name = reference.partition(":")
    if not colon:
        return jobs.make(reference, config)
    value = imported(module, name)
    made = value(config) if callable(value) else value
    if not isinstance(made, Job):
        raise ConfigError(f"{reference} is neither a job nor a function that returns one")
    topics.register(topics_of(made))
    jobs.JOBS.register(made.name, value if callable(value) else lambda _: made)
    return made


def topics_of(made: Job) -> list[Topic]:
    """Returns the topics that a job reads and writes."""
    return [*(task.topic for task in made.tasks), *made.writes]


def imported(module: str, name: str) -> Any:
    """Returns a module's attribute. The module is installed, or in the current folder. Raises ConfigError."""
    folder = os.getcwd()
    if folder not in sys.path:  # at the end: nothing that is installed is hidden by what lies in this folder
        sys.path.append(folder)
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as e:
        if e.name is None or not f"{module}.".startswith(f"{e.name}."):
            raise
        raise ConfigError(f"no module {e.name!r}, neither installed nor in {folder}") from e
    except AttributeError as e:
        if getattr(e, "obj", None) is not sys.modules.get(module):
            raise
        raise ConfigError(f"module {module!r} has no {name!r}") from e
