"""Settings of Postgres and Redis: where they are."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from weir.infra.config.settings import Section, port, setting

#: The role that services log in as at the embedded Postgres, and the database, which belongs to that role.
POSTGRES_ROLE = POSTGRES_DATABASE = "weir"


def _redis(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("redis", "rediss", "unix") or not (url.hostname or url.path):
        raise ValueError("must be redis://[user:password@]host:port[/number], rediss://… or unix:///path")
    return text


@dataclass(frozen=True)
class PostgresConfig(Section):
    """`url` is None for the embedded Postgres; `Config.dsn` is what clients connect to."""

    url: str | None = setting(
        "WEIR_POSTGRES", None, str, "postgresql:// address of a Postgres that exists; not set: the embedded one",
        secret=True,
    )  # fmt: skip
    port: int = port("WEIR_POSTGRES_PORT", 2, 5433, "the embedded Postgres's port")

    @property
    def embedded(self) -> str:
        """The embedded Postgres's address, as it is shown: without the way to the password."""
        return f"postgresql://{POSTGRES_ROLE}@127.0.0.1:{self.port}/{POSTGRES_DATABASE}"


@dataclass(frozen=True)
class RedisConfig(Section):
    """`url` is None where there is no Redis."""

    url: str | None = setting(
        "WEIR_REDIS", None, _redis, "redis:// address of a Redis that exists, for answers that are kept; not set: in"
        " memory", secret=True,
    )  # fmt: skip
