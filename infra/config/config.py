"""The configuration of a process: its sections, and the settings that all components share."""

from __future__ import annotations

import dataclasses
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from weir.infra.config.sections.analytics import AnalyticsConfig
from weir.infra.config.sections.archive import ArchiveConfig
from weir.infra.config.sections.broadcast import BroadcastConfig
from weir.infra.config.sections.databases import PostgresConfig, RedisConfig
from weir.infra.config.sections.feed import FeedConfig
from weir.infra.config.sections.http import ApiConfig, HttpConfig
from weir.infra.config.sections.ingest import IngestConfig
from weir.infra.config.sections.kafka import KafkaConfig
from weir.infra.config.sections.links import LinksConfig
from weir.infra.config.sections.metrics import MetricsConfig
from weir.infra.config.sections.monitoring import MonitoringConfig
from weir.infra.config.sections.runtime import LogConfig, WorkerConfig
from weir.infra.config.settings import Section, duration, setting, settings_of, whole
from weir.infra.errors import ConfigError


def _apps(text: str) -> str:
    if not re.fullmatch(r"[\w.]+(:\w+)?(\s*,\s*[\w.]+(:\w+)?)*", text):
        raise ValueError("must be module or module:name, or several with commas between them")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", text):
        raise ValueError("must be a host name or an address, without a port")
    return text


@dataclass(frozen=True)
class Config(Section):
    """Settings of weir: those that all components share, and a section for each component.

    Durations are in milliseconds; paths are absolute.
    """

    home: Path = setting(
        "WEIR_HOME",
        ".weir",
        lambda text: Path(text).expanduser().absolute(),
        "where embedded servers keep their data; only its owner may enter it",
    )
    host: str = setting("WEIR_HOST", "127.0.0.1", str, "the address that weir's own endpoints bind to")
    advertised_host: str | None = setting(
        "WEIR_ADVERTISED_HOST",
        None,
        _host,
        "the name under which others reach this machine's workers; not set: WEIR_HOST, or its host name",
    )
    port_base: int | None = whole(
        "WEIR_PORT_BASE", None, 1, 65500, "moves all ports together: the first of a run of ports"
    )
    apps: str | None = setting(
        "WEIR_APPS",
        None,
        _apps,
        "module[:name],…: packages of your own with a weir.App, whose jobs and sinks run like weir's",
    )
    max_skew: int = duration("WEIR_MAX_SKEW", "5m", "how far ahead of the clock a timestamp may be")
    log: LogConfig = LogConfig()
    kafka: KafkaConfig = KafkaConfig()
    postgres: PostgresConfig = PostgresConfig()
    redis: RedisConfig = RedisConfig()
    http: HttpConfig = HttpConfig()
    api: ApiConfig = ApiConfig()
    worker: WorkerConfig = WorkerConfig()
    feed: FeedConfig = FeedConfig()
    links: LinksConfig = LinksConfig()
    ingest: IngestConfig = IngestConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    metrics: MetricsConfig = MetricsConfig()
    broadcast: BroadcastConfig = BroadcastConfig()
    analytics: AnalyticsConfig = AnalyticsConfig()
    archive: ArchiveConfig = ArchiveConfig()

    def check(self) -> None:
        """Raises ConfigError if settings contradict each other, within a section or across sections."""
        for field in dataclasses.fields(self):
            if isinstance(section := getattr(self, field.name), Section):
                section.check()
        ports: dict[int, str] = {}
        for declared, value in settings_of(self):
            if (
                declared.above is not None
                and (other := ports.setdefault(value, declared.variable)) != declared.variable
            ):
                raise ConfigError(f"{other} and {declared.variable} are both {value}: choose different ports")
        if self.max_skew > self.links.retention:
            raise ConfigError(
                "WEIR_MAX_SKEW must not exceed WEIR_LINKS_RETENTION: one clock ahead would make others late"
            )

    def topic(self, name: str) -> str:
        """The topic's name on the broker."""
        return self.kafka.topic(name)

    def port(self, name: str) -> int:
        """The port that the variable `WEIR_<NAME>_PORT` sets."""
        variable = f"WEIR_{name.upper()}_PORT"
        return next(int(value) for declared, value in settings_of(self) if declared.variable == variable)

    @property
    def reached_at(self) -> str:
        """The host under which other processes reach this one: an address to bind to may be one that means all."""
        if self.advertised_host is not None:
            return self.advertised_host
        return socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host

    @property
    def dsn(self) -> str:
        """Where Postgres is: `WEIR_POSTGRES`, or the embedded one, whose address names the file with the password.

        A client that uses this address sends the password to no program that has taken the port meanwhile: SCRAM
        proves that both sides know the password, without telling it.
        """
        if self.postgres.url:
            return self.postgres.url
        return f"{self.postgres.embedded}?passfile={quote(str(self.postgres_passfile))}&require_auth=scram-sha-256"

    @property
    def postgres_passfile(self) -> Path:
        """The password of the embedded Postgres, as libpq reads it (`PGPASSFILE`)."""
        return self.home / "pgpass"
