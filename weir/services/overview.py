"""Where everything is and how it does: what `weir status` shows."""

from __future__ import annotations

import msgspec

from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError, WeirError
from weir.infra.kafka.client import topics_there
from weir.infra.postgres import connect
from weir.infra.runtime.status import REFUSED, ServiceStatus, read_all
from weir.services.registry import EMBEDDED, services

#: Seconds that a server has to answer.
_PATIENCE = 3.0

Fact = str | int | float | bool | None


class OverviewEntry(msgspec.Struct, frozen=True):
    """One server or service. `state`: as in `weir.infra.runtime.status`; `pid`: where it is a process of weir's."""

    state: str
    address: str | None = None
    pid: int | None = None
    detail: dict[str, Fact] = {}


class Overview(msgspec.Struct, frozen=True):
    """State of all servers and services: `kafka` is host:port, `postgres` an address for clients."""

    home: str
    kafka: str
    postgres: str
    services: dict[str, OverviewEntry]


def overview(config: Config) -> Overview:
    """Reads what services say of themselves, and asks the two servers. Takes seconds where one does not answer."""
    said = {status.name: status for status in read_all(config)}
    weir = said.pop("weir", None)
    running = _children(weir)
    entries = {
        "kafka": _server(config, "kafka", f"kafka://{config.kafka.bootstrap}", said.pop("kafka", None)),
        "postgres": _server(
            config, "postgres", config.postgres.url or config.postgres.embedded, said.pop("postgres", None)
        ),
    }
    for service in services():
        if status := said.pop(service.name, None):
            entries[service.name] = entry_of(status)
        elif service.name in running:
            entries[service.name] = OverviewEntry("starting")
        elif service.wanted(config):
            entries[service.name] = OverviewEntry("stopped")
    for name, entry in entries.items():
        if weir is not None and (restarts := weir.detail.get(f"restarts.{name}")):
            entry.detail["restarts"] = restarts
    # Those that were started by hand, beside `weir up` or without it.
    entries |= {name: entry_of(status) for name, status in said.items()}
    return Overview(str(config.home), config.kafka.bootstrap, config.dsn, entries)


def _children(weir: ServiceStatus | None) -> list[str]:
    """The names of what `weir up` has started, or is about to."""
    return str(weir.detail.get("children", "")).split(",") if weir and weir.state == "running" else []


def entry_of(status: ServiceStatus) -> OverviewEntry:
    """Returns what a service says of itself, as the overview has it."""
    gone = status.state in ("stopped", "failed", REFUSED)  # the pid of a failed one is its supervisor's
    detail = {} if status.state == "stopped" else status.detail
    return OverviewEntry(status.state, status.address, None if gone else status.pid, detail)


def _server(config: Config, name: str, address: str, status: ServiceStatus | None) -> OverviewEntry:
    """An embedded one is what its process is, and must answer as well; one elsewhere must answer."""
    embedded = EMBEDDED[name](config)
    if embedded and (status is None or status.state != "running"):
        return entry_of(status) if status else OverviewEntry("stopped", address)
    error = _ask_kafka(config) if name == "kafka" else _ask_postgres(config)
    detail: dict[str, Fact] = {"embedded": embedded}
    if error:
        detail["error"] = error
    return OverviewEntry("failed" if error else "running", address, status.pid if embedded and status else None, detail)


def _ask_kafka(config: Config) -> str | None:
    """Returns why Kafka cannot be used, or None if it answers."""
    try:
        topics_there(config, _PATIENCE)
    except WeirError as e:
        return str(e)
    return None


def _ask_postgres(config: Config) -> str | None:
    try:
        connect(config, "weir-status").close()
    except PostgresUnavailableError as e:
        return str(e)
    return None
