"""Configuration: read once, from the environment (`WEIR_*`), into one frozen object that is passed in.

Every variable is one line in `Config`; its documentation, default and parser stand beside it. `weir config` prints
them with their sources. An unknown `WEIR_` variable, or a value that cannot be used, raises `ConfigError`.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.errors import ConfigError

#: A value in a `key=value` address of Postgres: in quotes or not, with characters escaped by a backslash.
_DSN_VALUE = r"(?:'(?:[^'\\]|\\.)*'?|(?:\\.|\S)+)"

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

#: Every port, with its place above `WEIR_PORT_BASE` and its default where no base is set.
PORTS = {
    "kafka": (0, 9092),
    "kafka_controller": (1, 9093),
    "postgres": (2, 5433),
    "api": (3, 8000),
    "feed": (4, 8765),
    "listener": (5, 8080),
    "broadcaster": (6, 8081),
    "broadcast": (7, 3000),
    "monitoring": (8, 8090),
    "metrics": (9, 8091),
}


def duration_ms(text: str) -> int:
    """A duration such as `200ms`, `5s`, `10m`, `2h`, `1d`, in milliseconds. Raises ValueError.

    >>> duration_ms("1.5s"), duration_ms("10m")
    (1500, 600000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not match:
        raise ValueError("write a duration as 200ms, 5s, 10m, 2h or 1d")
    return round(float(match[1]) * _UNITS[match[2]])


def duration_text(ms: int) -> str:
    """Milliseconds as `duration_ms` reads them, in the largest unit that holds them whole.

    >>> duration_text(300_000), duration_text(90_000), duration_text(200), duration_text(0)
    ('5m', '90s', '200ms', '0ms')
    """
    unit = next((u for u, size in sorted(_UNITS.items(), key=lambda item: -item[1]) if ms and ms % size == 0), "ms")
    return f"{ms // _UNITS[unit]}{unit}"


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text.strip()):
            raise ValueError("must be a whole number")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def _feed(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("ws", "wss") or not url.hostname or url.port == 0:
        raise ValueError("must be ws://host:port or wss://host:port, with a path where the feed has one")
    return text


def _redis(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("redis", "rediss", "unix") or not (url.hostname or url.path):
        raise ValueError("must be redis://[user:password@]host:port[/number], rediss://… or unix:///path")
    return text


def _brokers(text: str) -> str:
    for broker in text.split(","):
        host, _, port = broker.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("must be host:port, or several with commas between them")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", text):
        raise ValueError("must be a host name or an address, without a port")
    return text


def _origins(text: str) -> str:
    """`Origin` headers (RFC 6454) with commas between them, as browsers write them: in lower case, without a path."""
    origins = [origin.strip().lower() for origin in text.split(",")]
    if not all(re.fullmatch(r"null|[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin) for origin in origins):
        raise ValueError("must be scheme://host[:port], or several with commas between them")
    return ",".join(origins)


def archive_url(text: str) -> str:
    """A place for the archive, without a slash at its end. Raises ValueError.

    >>> archive_url("s3://bucket/weir/"), archive_url("file:///var/archive")
    ('s3://bucket/weir', 'file:///var/archive')
    """
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#@]*)?|file:///[^?#]+", text) or "//" in text[len("file://") :]:
        raise ValueError("must be s3://bucket/prefix or file:///path")
    return text.rstrip("/")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]*", text):
        raise ValueError("letters, digits, '.', '_' and '-' only")
    return text


_port = _whole(1, 65535)


def _password(text: str) -> str:
    return text


def _setting(default: Any, parse: Callable[[str], Any], doc: str, secret: bool = False) -> Any:
    """One variable: `default` is given as it would be written in the environment, or None for "not set"."""
    value = parse(default) if isinstance(default, str) else default
    return dataclasses.field(default=value, metadata={"parse": parse, "doc": doc, "secret": secret})


@dataclass(frozen=True)
class Config:
    """All of weir's settings. Durations are in milliseconds; paths are absolute."""

    home: Path = _setting(".weir", lambda t: Path(t).expanduser().absolute(), "where embedded servers keep their data")
    kafka: str | None = _setting(
        None, _brokers, "host:port[,host:port] of a Kafka that exists; not set: the embedded one"
    )
    postgres: str | None = _setting(
        None, str, "postgresql:// address of a Postgres that exists; not set: the embedded one", secret=True
    )
    redis: str | None = _setting(
        None,
        _redis,
        "redis:// address of a Redis that exists, for answers that are kept; not set: in memory",
        secret=True,
    )
    host: str = _setting("127.0.0.1", str, "the address that weir's own endpoints bind to")
    advertised_host: str | None = _setting(
        None, _host, "the name under which others reach this machine's workers; not set: WEIR_HOST, or its host name"
    )
    worker_port: int = _setting("0", _whole(0, 65535), "where a worker serves GET /tables; 0: any port that is free")
    port_base: int | None = _setting(None, _whole(1, 65500), "moves all ports together: the first of a run of ports")
    kafka_port: int = _setting(None, _port, "the embedded Kafka's port")
    kafka_controller_port: int = _setting(None, _port, "the embedded Kafka's controller port")
    postgres_port: int = _setting(None, _port, "the embedded Postgres's port")
    api_port: int = _setting(None, _port, "the HTTP API's port (GET /links, /analytics, /health)")
    feed_port: int = _setting(None, _port, "where `weir feed serve` listens")
    listener_port: int = _setting(None, _port, "where `weir run listener` takes messages in")
    broadcaster_port: int = _setting(None, _port, "where `weir run broadcaster` hands messages out")
    broadcast_port: int = _setting(None, _port, "where both are, under /ws/manager and /ws/broadcast")
    monitoring_port: int = _setting(None, _port, "where `weir run monitoring` serves POST /events and GET /clients")
    metrics_port: int = _setting(None, _port, "where `weir run metrics` serves POST /metric-events and GET /aggregates")
    feed_url: str | None = _setting(None, _feed, "ws:// address of a feed that `weir up` connects to", secret=True)
    topic_prefix: str = _setting("", _prefix, "put before every topic, group and transactional id")
    partitions: int = _setting("4", _whole(1, 128), "partitions of the topics that weir makes")
    replication: int = _setting("1", _whole(1, 15), "replication factor of the topics that weir makes")
    max_skew: int = _setting("5m", duration_ms, "how far ahead of the clock a timestamp may be")
    links_window: int = _setting("60s", duration_ms, "length of the links job's tumbling window")
    links_grace: int = _setting("5s", duration_ms, "how long after its end a window waits for late events")
    links_retention: int = _setting(
        "10m",
        duration_ms,
        "how far behind the latest an event may be and still count; windows are kept that long after their end",
    )
    links_linger: int = _setting(
        "200ms", duration_ms, "pace of transactions under load: a part of it apart, longer while behind"
    )
    broadcast_user: str = _setting("user", str, "who may send a broadcast (HTTP Basic)")
    broadcast_password: str = _setting("pwd", _password, "the password of WEIR_BROADCAST_USER", secret=True)
    broadcast_max_message: int = _setting("262144", _whole(1, 1_000_000), "the longest broadcast message, in bytes")
    broadcast_queue: int = _setting(
        "1048576", _whole(1024, 1 << 30), "bytes that may wait for one slow subscriber before it is closed"
    )
    broadcast_memory: int = _setting(
        "67108864", _whole(0, 1 << 36), "bytes of the latest messages that a broadcaster keeps for those who resume"
    )
    broadcast_connections: int = _setting("20000", _whole(1, 1_000_000), "the most connections to one process")
    broadcast_per_address: int | None = _setting(
        None, _whole(1, 1_000_000), "the most from one address; not set: WEIR_BROADCAST_CONNECTIONS, for proxies' sake"
    )
    broadcast_origins: str | None = _setting(
        None, _origins, "the pages whose browsers may connect: scheme://host[:port],…; not set: any"
    )
    broadcast_idle: int = _setting(
        "4s", duration_ms, "a peer that is silent for so long is pinged, and dropped after as long again"
    )
    ingest_max_body: int = _setting("8388608", _whole(1024, 1 << 28), "the longest request body taken in, in bytes")
    ingest_in_flight: int = _setting(
        "67108864", _whole(1024, 1 << 36), "bytes of events that may wait for Kafka; beyond it senders get 429"
    )
    monitoring_dedup_retention: int = _setting("24h", duration_ms, "how long an event_id is remembered")
    monitoring_dedup_capacity: int = _setting(
        "1000000",
        _whole(1, 1 << 36),
        "the most event_ids remembered; beyond it the oldest are forgotten, and that is told",
    )
    monitoring_max_skew: int = _setting("1h", duration_ms, "how far ahead of the clock an event_timestamp may be")
    monitoring_series_memory: int = _setting(
        "268435456", _whole(1024, 1 << 40), "bytes of TIME-SERIES events kept in memory; beyond it the oldest go"
    )
    metrics_grace: int = _setting("5s", duration_ms, "how long after its end a minute of metrics waits for late events")
    metrics_retention: int = _setting(
        "2h", duration_ms, "how far behind the latest a metric event may be and still count"
    )
    metrics_max_skew: int = _setting("1h", duration_ms, "how far ahead of the clock a metric event may be")
    metrics_linger: int = _setting("1s", duration_ms, "pace of the metrics job's transactions under load")
    archive: str | None = _setting(
        None, archive_url, "where `weir archive` puts old events: s3://bucket/prefix or file:///path"
    )
    analytics_cache: int = _setting(
        "67108864",
        _whole(0, 1 << 40),
        "bytes of answers that the HTTP API keeps in memory, where WEIR_REDIS is not set",
    )
    analytics_max_skew: int = _setting("1h", duration_ms, "how far ahead of the clock a tenant's event may be")
    analytics_max_age: int = _setting("3650d", duration_ms, "how far behind the clock a tenant's event may be")
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "least severe level that is logged")
    log_format: str = _setting("console", _one_of("console", "json"), "how log lines are written")

    def topic(self, name: str) -> str:
        """The topic's name on the broker."""
        return self.topic_prefix + name

    @property
    def reached_at(self) -> str:
        """The host under which other processes reach this one: an address to bind to may be one that means all."""
        if self.advertised_host is not None:
            return self.advertised_host
        return socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host

    @property
    def bootstrap(self) -> str:
        """Where Kafka is: `WEIR_KAFKA`, or the embedded one."""
        return self.kafka or f"127.0.0.1:{self.kafka_port}"

    @property
    def dsn(self) -> str:
        """Where Postgres is: `WEIR_POSTGRES`, or the embedded one."""
        return self.postgres or f"postgresql://postgres@127.0.0.1:{self.postgres_port}/weir"


@dataclass(frozen=True)
class Setting:
    """One variable as `weir config` shows it. `value` is hidden where it is a secret."""

    variable: str
    value: str
    source: str
    doc: str


def load(environ: Mapping[str, str]) -> Config:
    """The configuration in `environ`. Raises ConfigError, with one line that names the variable."""
    return _read(environ)[0]


def describe(environ: Mapping[str, str]) -> list[Setting]:
    """Every setting with its value and where that came from: `environment`, `WEIR_PORT_BASE` or `default`."""
    config, sources = _read(environ)
    return [
        Setting(
            "WEIR_" + f.name.upper(),
            shown(_as_written(getattr(config, f.name), f.metadata["parse"]), f.metadata["secret"]),
            sources[f.name],
            f.metadata["doc"],
        )
        for f in dataclasses.fields(Config)
    ]


def _as_written(value: Any, parse: Callable[[str], Any]) -> Any:
    """The value as it would be written in the environment; nothing of a password."""
    if parse is _password:
        return "***"
    return duration_text(value) if parse is duration_ms and value is not None else value


def shown(value: object, secret: bool = True) -> str:
    """A setting's value as people may see it: of an address that is a `secret`, all that may be one is hidden.

    >>> shown("postgresql://me:p@ss@host/db?user=u&password=p"), shown("host=h password=p"), shown("wss://token@h/x")
    ('postgresql://me:***@host/db?user=***&password=***', 'host=h password=***', 'wss://***@h/x')
    """
    if value is None:
        return ""
    text = str(value)
    if not secret:
        return text
    if "://" not in text:
        return re.sub(rf"(?i)(password|passfile|sslkey)(\s*=\s*){_DSN_VALUE}", r"\1\2***", text)
    scheme, rest = text.split("://", 1)
    address, *query = re.split(r"[?#]", rest)
    if any("@" in part for part in query):
        return f"{scheme}://***"  # a password may hold a ? or #, too: on which side the secret stands cannot be told
    if "@" in address:
        user, _, host = address.rpartition("@")
        name, colon, _ = user.partition(":")
        # A database's user is no secret; what stands alone before a feed's @ is a token.
        address = f"{name}{colon and ':***'}@{host}" if colon or scheme.startswith("postgres") else f"***@{host}"
    return f"{scheme}://{address}" + "".join("?" + "&".join(map(_hidden, part.split("&"))) for part in query)


def _hidden(parameter: str) -> str:
    """A query's parameter without its value; all of it hidden where it has no name."""
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals else "***"


def _read(environ: Mapping[str, str]) -> tuple[Config, dict[str, str]]:
    fields = {f.name: f for f in dataclasses.fields(Config)}
    given: dict[str, Any] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("WEIR_"):
            continue
        name = variable.removeprefix("WEIR_").lower()
        if name not in fields or variable != variable.upper():
            raise ConfigError(f"{variable} is no setting of weir's; `weir config` lists them all")
        if text == "":
            continue
        try:
            given[name] = fields[name].metadata["parse"](text)
        except ValueError as e:
            shown = "" if fields[name].metadata["secret"] else f"={text!r}"
            raise ConfigError(f"{variable}{shown} cannot be used: {e}") from e
    sources = {name: "environment" if name in given else "default" for name in fields}
    base = given.get("port_base")
    for port, (above, default) in PORTS.items():
        name = f"{port}_port"
        if name not in given:
            given[name] = default if base is None else base + above
            sources[name] = "default" if base is None else "WEIR_PORT_BASE"
    for port in PORTS:
        for other in PORTS:
            if port < other and given[f"{port}_port"] == given[f"{other}_port"]:
                raise ConfigError(
                    f"WEIR_{port.upper()}_PORT and WEIR_{other.upper()}_PORT are both {given[f'{port}_port']}"
                )
    config = Config(**given)
    if config.links_window <= 0:
        raise ConfigError("WEIR_LINKS_WINDOW must be longer than 0")
    if config.links_retention < config.links_window + config.links_grace:
        raise ConfigError(
            "WEIR_LINKS_RETENTION must not be shorter than WEIR_LINKS_WINDOW and WEIR_LINKS_GRACE together: "
            "events of an open window would be late"
        )
    if config.links_retention > 6 * _UNITS["d"]:
        raise ConfigError("WEIR_LINKS_RETENTION must not exceed 6d: link-counts, which state is restored from, keeps 7")
    if config.max_skew > config.links_retention:
        raise ConfigError("WEIR_MAX_SKEW must not exceed WEIR_LINKS_RETENTION: one clock ahead would make others late")
    if config.metrics_retention < 60_000 + config.metrics_grace:
        raise ConfigError("WEIR_METRICS_RETENTION must not be shorter than a minute and WEIR_METRICS_GRACE together")
    if config.metrics_retention > _UNITS["d"]:
        raise ConfigError("WEIR_METRICS_RETENTION must not exceed 1d: every minute of it is kept")
    if config.metrics_max_skew > config.metrics_retention:
        raise ConfigError(
            "WEIR_METRICS_MAX_SKEW must not exceed WEIR_METRICS_RETENTION: one clock ahead would make others late"
        )
    if config.broadcast_idle < 100:
        raise ConfigError("WEIR_BROADCAST_IDLE must be at least 100ms: silent peers are looked for all the time else")
    if config.monitoring_dedup_retention <= 0:
        raise ConfigError("WEIR_MONITORING_DEDUP_RETENTION must be longer than 0")
    return config, sources
