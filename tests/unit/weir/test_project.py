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

from weir import compose
from weir.cli.main import app
from weir.infra import environment
from weir.infra.config import load
from weir.infra.extras import EXTRAS
from weir.infra.servers.jars import KAFKA_VERSION, locked
from weir.infra.servers.kafka import broker_settings
from weir.infra.servers.postgres import POSTGRES_VERSION
from weir.services.registry import services

ROOT = Path(__file__).parents[3]
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


RUNTIME, ARCHIVE, DEVELOPMENT = "requirements.txt", "requirements-archive.txt", "requirements-dev.txt"


def requirements(lock: str) -> dict[str, str]:
    """Returns the packages that the lock pins, each with its whole entry."""
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", (ROOT / lock).read_text()))
    return {entry.split("==")[0]: entry.strip() for entry in entries if entry.strip()}


def test_everything_that_runs_is_locked_and_nothing_that_only_develops() -> None:
    runs = {*required("options", "install_requires"), *required("options.extras_require", "build")}
    assert runs <= requirements(RUNTIME).keys()
    assert not set(required("options.extras_require", "dev")) & requirements(RUNTIME).keys()


def test_the_archive_lock_is_the_runtime_lock_with_the_extra_on_top() -> None:
    archive, extra = requirements(ARCHIVE), set(required("options.extras_require", "archive"))
    assert extra == set(EXTRAS["archive"])
    assert archive.keys() - requirements(RUNTIME).keys() == extra
    assert requirements(RUNTIME).items() <= archive.items()


def test_the_development_lock_is_the_runtime_lock_with_more_on_top() -> None:
    development = requirements(DEVELOPMENT)
    assert requirements(RUNTIME).items() <= development.items()
    assert set(required("options.extras_require", "dev")) <= development.keys()


@pytest.mark.parametrize("lock", [RUNTIME, ARCHIVE, DEVELOPMENT])
def test_a_lock_has_hashes_for_everything_and_names_no_host(lock: str) -> None:
    for name, entry in requirements(lock).items():
        assert "--hash=sha256:" in entry, name
        assert "://" not in entry, name


def test_a_set_up_says_how_much_it_fetches() -> None:
    packages, size = environment.figures(ROOT / RUNTIME)
    kafka = round(sum(jar.size for jar in locked()) / environment.MB)
    told = environment.announcement(Path(".venv"), ROOT / RUNTIME)
    assert f"{packages} packages, {size} MB to fetch; Apache Kafka, {kafka} MB" in told
    # A few are for other systems alone; MB: those of the development lock are more.
    assert 0 <= len(requirements(RUNTIME)) - packages <= 5
    assert size < environment.figures(ROOT / DEVELOPMENT)[1]


def test_a_lock_without_its_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("aiohttp==3.14.5\n")
    with pytest.raises(environment.SetupError, match="make lock"):
        environment.figures(tmp_path / "lock.txt")


def test_what_fetches_the_packages_is_locked_as_well() -> None:
    lock = (ROOT / DEVELOPMENT).read_text()
    entry = environment.entry(lock, "uv")
    assert entry.splitlines()[0].startswith("uv==")
    assert {line.strip()[:13] for line in entry.splitlines()[1:]} == {"--hash=sha256"}
    with pytest.raises(environment.SetupError, match="nothing"):
        environment.entry(lock, "nothing")


def test_the_installed_packages_are_the_locked_ones() -> None:
    for name in required("options", "install_requires"):
        assert f"{name}=={metadata.version(name)} " in requirements(RUNTIME)[name]


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
    assert (config.kafka.url, config.log.format) == ("kafka:9092", "json")
    assert config.postgres.url


def defaults(environment: Mapping[str, object]) -> dict[str, str]:
    """The values as compose would make them with nothing set outside: `${NAME:-default}`."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for name, value in environment.items()}


def test_the_containers_are_those_that_the_registries_have() -> None:
    assert (ROOT / "docker-compose.yml").read_text() == compose.text(), "run `make compose`"


def test_every_container_is_watched_bounded_and_says_little() -> None:
    for name, container in COMPOSE.items():
        assert ("healthcheck" in container) is (name not in ("topics", "counts")), name  # one ends, one serves nobody
        assert container["mem_limit"], name
        assert container["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert container["attach"] is (name == "counts"), name


def test_no_password_is_in_the_file_that_cannot_be_set_from_outside() -> None:
    for name, container in COMPOSE.items():
        for variable, value in container.get("environment", {}).items():
            if "PASSWORD" in variable or "SECRET" in variable or "://weir:" in str(value):
                assert "${" in value, (name, variable)


@pytest.mark.parametrize("name", [service.name for service in services() if service.ports and service.scheme == "http"])
def test_behind_a_containers_port_all_clients_are_one_address(name: str) -> None:
    config = load(defaults(OURS[name]["environment"]))
    assert config.http.per_address == config.http.connections


def test_the_containers_servers_are_the_embedded_ones_versions() -> None:
    assert COMPOSE["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert COMPOSE["postgres"]["image"] == f"postgres:{POSTGRES_VERSION}"


def test_the_containers_kafka_is_set_up_like_the_embedded_one() -> None:
    embedded = broker_settings(9092, 9093)
    places = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs", "inter.broker.listener.name"}
    for variable, value in COMPOSE["kafka"]["environment"].items():
        setting = variable.removeprefix("KAFKA_").lower().replace("_", ".")
        if setting not in places | {"listener.security.protocol.map", "heap.opts"}:
            assert str(value) == embedded[setting], variable


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    lines = (ROOT / "infra" / "docker" / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert set(copied) <= kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_no_other_installed_package_is_called_weir() -> None:
    assert set(metadata.packages_distributions().get("weir", [])) <= {"weir"}
