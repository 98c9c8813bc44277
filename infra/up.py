"""All of weir on one machine: embedded servers, then topics and tables, then the services that need them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from infra.config import Config
from infra.home import own_home
from infra.kafka import ensure_topics
from infra.keeper import Child
from infra.postgres import migrate
from infra.servers.kafka import KafkaServer
from infra.servers.postgres import PostgresServer
from infra.services import SERVICES, ServiceProcess, wanted
from infra.supervisor import Supervisor
from infra.threads import in_daemon


@contextlib.asynccontextmanager
async def up(config: Config, only: str | None = None, logs: Path | None = None) -> AsyncIterator[list[str]]:
    """Everything that `weir up [--only a,b]` runs, for as long as the block does; gives the names of what runs.

    What the services print is this process's output, or goes to files in the folder `logs`, which must be there.
    Services inherit this process's environment, which must be the one that `config` was read from. Runs in the main
    thread (`Supervisor`). Raises ConfigError, StartError, and KafkaUnavailableError or PostgresUnavailableError where
    a server that exists elsewhere does not answer.
    """
    names = wanted(config, only)
    chosen = [service for service in SERVICES if service.name in names]
    services = [ServiceProcess(config, service, logs) for service in chosen]
    servers: list[Child] = []
    if "kafka" in names:
        servers.append(KafkaServer(config))
    if "postgres" in names:
        servers.append(PostgresServer(config))
    with own_home(config):
        async with Supervisor(config) as supervisor:
            await supervisor.start_servers(servers)
            if services or "kafka" in names:
                await in_daemon(lambda: ensure_topics(config, timeout=10.0))
            if "postgres" in names or any(service.tables for service in chosen):
                await in_daemon(lambda: migrate(config))
            await supervisor.start_services(services)
            yield names
