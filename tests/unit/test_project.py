"""The project's own files agree with each other: lock, metadata, containers, command line."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from infra.cli.main import app
from infra.config import load
from infra.servers.jars import KAFKA_VERSION
from infra.servers.kafka import broker_settings
from infra.servers.postgres import POSTGRES_VERSION
from infra.services import SERVICES

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in COMPOSE.items() if "build" in service}


def normal(name: str) -> str:
    """A distribution's name as the lock writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(section: str, option: str) -> Iterator[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for line in setup[section][option].strip().splitlines():
        name = re.match(r"[A-Za-z0-9._-]+", line)
        assert name
        yield normal(name[0])


def requirements() -> dict[str, str]:
    """What the lock pins, each with its whole entry."""
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", (ROOT / "requirements.txt").read_text()))
    return {entry.split("==")[0]: entry for entry in entries if entry.strip()}


@pytest.mark.parametrize("section", ["options:install_requires", "options.extras_require:dev"])
def test_everything_that_is_required_is_locked(section: str) -> None:
    assert set(required(*section.split(":"))) <= requirements().keys()


def test_the_lock_has_hashes_for_everything_and_names_no_host() -> None:
    for name, entry in requirements().items():
        assert "--hash=sha256:" in entry, name
        assert "://" not in entry, name


def test_the_installed_packages_are_the_locked_ones() -> None:
    for name in required("options", "install_requires"):
        assert f"{name}=={metadata.version(name)} " in requirements()[name]


def check_command(arguments: list[str]) -> None:
    """Raises click's usage error where the command line does not take these arguments. Runs nothing."""
    name, *rest = arguments
    assert name == "weir"
    command: Any = typer.main.get_command(app)
    context = command.make_context(name, list(rest))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize("name", OURS)
def test_the_command_line_takes_a_containers_command(name: str) -> None:
    check_command(OURS[name]["command"])


def test_a_command_that_is_none_would_be_found() -> None:
    with pytest.raises(Exception, match="frobnicate"):
        check_command(["weir", "topics", "--frobnicate"])
    with pytest.raises(Exception, match="frobnicate"):
        check_command(["weir", "frobnicate"])


@pytest.mark.parametrize("name", OURS)
def test_a_containers_variables_are_settings_with_usable_values(name: str) -> None:
    config = load(defaults(OURS[name]["environment"]))
    assert (config.kafka, config.log_format) == ("kafka:9092", "json")
    assert config.postgres


def defaults(environment: Mapping[str, object]) -> dict[str, str]:
    """The values as compose would make them with nothing set outside: `${NAME:-default}`."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for name, value in environment.items()}


def test_the_containers_run_what_weir_up_runs() -> None:
    config = load({"WEIR_FEED_URL": "ws://feed/"})
    for service in SERVICES:
        assert OURS[service.name]["command"] == ["weir", *service.command(config)]
    assert OURS.keys() == {service.name for service in SERVICES} | {"topics"}


def test_the_containers_servers_are_the_embedded_ones_versions() -> None:
    assert COMPOSE["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert COMPOSE["postgres"]["image"] == f"postgres:{POSTGRES_VERSION}"


def test_the_containers_kafka_is_set_up_like_the_embedded_one() -> None:
    embedded = broker_settings(9092, 9093)
    places = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
    for variable, value in COMPOSE["kafka"]["environment"].items():
        setting = variable.removeprefix("KAFKA_").lower().replace("_", ".")
        if setting not in places | {"listener.security.protocol.map"}:
            assert str(value) == embedded[setting], variable


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    lines = (ROOT / "infra" / "docker" / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert set(copied) <= kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_no_other_installed_package_has_a_name_of_ours() -> None:
    owners = metadata.packages_distributions()
    for name in ("schemas", "producers", "streams", "consumers", "infra"):
        assert set(owners.get(name, [])) <= {"weir"}, name
