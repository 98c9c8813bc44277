"""Postgres as weir uses it: connections, its errors in weir's own words, and the migrations.

All tables are named without a schema: they live where the address's `search_path` puts them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra import log
from infra.config import Config
from infra.errors import ConfigError, DataRefusedError, PostgresUnavailableError, WeirError

#: What weir reads as text, of times and numbers, is in these forms, whatever the server, database or user is set to.
_FORMS = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres", "extra_float_digits": "1"}
#: What libpq reads of the environment and sends after all that an address says: nothing in that could outdo it.
_SENT_LAST = ("PGDATESTYLE", "PGTZ", "PGGEQO")
#: Any number will do, as long as every weir asks for the same one.
_MIGRATION_LOCK = 0x77656972
#: libpq's: seconds to connect, seconds of silence before the connection is probed, milliseconds without an answer
#: before it is given up.
_TIMEOUTS = {"connect_timeout": 3, "keepalives_idle": 5, "keepalives_interval": 2, "tcp_user_timeout": 10_000}
#: What passes. The driver does not count as such that the server is read-only, or that it has ended a session which
#: held a transaction open and said nothing.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
#: The role as which tenants' rows are asked for.
_READER = "weir_reader"
#: As the migration that makes the role says it.
_REMEDY = "an administrator must run:"
_NO_TABLE = psycopg.errors.UndefinedTable
#: What is wrong is a value: classes 22 (data exception) and 23 (integrity constraint), and a JSON value that is nested
#: deeper than the server's stack.
_DATA = ("22", "23", "54001")

_log = log.get(__name__)


def conninfo(config: Config, application: str, settings: Mapping[str, str] | None = None) -> str:
    """The connection string: the configured address, weir's timeouts, and `settings` of the server for this session.

    `application` is the name that the server lists the connection under. What the environment says to libpq of forms,
    encoding and options is not heard, so that weir reads what it expects. Raises ConfigError for an address that is
    none.
    """
    for name in _SENT_LAST:
        os.environ.pop(name, None)
    try:
        given = conninfo_to_dict(config.dsn)
    except psycopg.ProgrammingError as e:  # its text may hold the password
        raise ConfigError("WEIR_POSTGRES must be postgresql://user:password@host:port/database") from e
    ours = " ".join(f"-c {name}={value}" for name, value in {**_FORMS, **(settings or {})}.items())
    merged: dict[str, object] = {**_TIMEOUTS, **given, "client_encoding": "UTF8", "application_name": application}
    merged["options"] = f"{given.get('options') or ''} {ours}".strip()
    return make_conninfo("", **{name: str(value) for name, value in merged.items()})


def connect(config: Config, application: str, settings: Mapping[str, str] | None = None) -> psycopg.Connection:
    """A connection in autocommit mode: transactions are begun by name. Raises PostgresUnavailableError."""
    with translated():
        return psycopg.connect(conninfo(config, application, settings), autocommit=True)


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's errors inside the block into weir's own."""
    try:
        yield
    except psycopg.Error as e:
        raise translate(e) from e


def translate(error: psycopg.Error) -> WeirError:
    """A driver's error as weir's own: retryable where waiting helps (away, full, locked, not migrated, a role not
    granted).

    DataRefusedError where what was to be stored is itself what Postgres does not take.
    """
    line = " ".join(str(error).split())
    if is_refusal(error):
        return DataRefusedError(f"Postgres refuses a value: {line}")
    if no_partition(error):
        return PostgresUnavailableError(f"Postgres has lost a partition meanwhile: {line}")
    if isinstance(error, _NO_TABLE):
        return PostgresUnavailableError(f"Postgres has no tables of weir's yet; `weir migrate` makes them ({line})")
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and _READER in line:
        remedy = "" if _REMEDY in line else f"; {_REMEDY} GRANT {_READER} TO the user in WEIR_POSTGRES"
        return PostgresUnavailableError(f"Postgres does not permit it: {line}{remedy}")
    if isinstance(error, _PASSING):
        return PostgresUnavailableError(
            f"Postgres {'cannot do it now' if error.sqlstate else 'does not answer'}: {line}"
        )
    return WeirError(f"Postgres: {line}")


def is_refusal(error: psycopg.Error) -> bool:
    """Whether a value is what is wrong: it would be refused again, however often it is tried."""
    return (error.sqlstate or "").startswith(_DATA) and not no_partition(error)


def no_partition(error: psycopg.Error) -> bool:
    """Whether a row found no partition of its table: a check violation, but of no constraint."""
    return isinstance(error, psycopg.errors.CheckViolation) and error.diag.constraint_name is None


@dataclass(frozen=True)
class Migration:
    """One numbered step of the schema."""

    number: int
    name: str
    sql: str = field(repr=False)

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """The migrations that this version of weir has, in order."""
    found = []
    for file in resources.files("infra.migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def migrate(config: Config, steps: Sequence[Migration] | None = None) -> list[Migration]:
    """Brings the schema up to date; returns what was applied. Each step is applied whole or not at all, by one weir.

    `steps` are weir's own unless given. Raises PostgresUnavailableError, and WeirError where the database holds a step
    that this weir does not have, or has with another content: it was made by another version.
    """
    steps = migrations() if steps is None else steps
    applied = []
    with connect(config, "weir-migrate") as connection, translated():
        connection.add_notice_handler(_warn)
        connection.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])  # released with the connection
        connection.execute(
            "CREATE TABLE IF NOT EXISTS weir_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        present = _verified(connection, steps)
        for step in steps:
            if step.number not in present:
                with connection.transaction():
                    connection.execute(step.sql.encode())
                    connection.execute(
                        "INSERT INTO weir_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                        [step.number, step.name, step.checksum],
                    )
                applied.append(step)
                _log.info("postgres.migrated", number=step.number, name=step.name)
    return applied


def _warn(notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized == "WARNING":
        _log.warning("postgres.warning", message=notice.message_primary)


def _verified(connection: psycopg.Connection, steps: Sequence[Migration]) -> set[int]:
    """The numbers that were applied before. Raises WeirError where they are not the ones this weir has."""
    known = {step.number: step for step in steps}
    present = set()
    for number, name, checksum in connection.execute("SELECT number, name, checksum FROM weir_migrations").fetchall():
        if number not in known:
            raise WeirError(f"Postgres holds migration {number:04d}_{name}, made by a newer weir than this one")
        if known[number].checksum != checksum:
            raise WeirError(f"migration {number:04d}_{name} is not the one that was applied to this Postgres")
        present.add(number)
    return present
