"""Postgres as weir uses it: connections, its errors in weir's own words, and the migrations.

All tables are named without a schema: they live where the address's `search_path` puts them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import (
    ConfigError,
    DataRefusedError,
    NoPostgresError,
    PostgresRefusesError,
    PostgresUnavailableError,
    WeirError,
)
from weir.infra.runtime.patience import waiting_for

#: What weir reads as text, of times and numbers, is in these forms, whatever the server, database or user is set to.
_FORMS = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres", "extra_float_digits": "1"}
#: What libpq reads of the environment and sends after all that an address says: nothing in that could outdo it.
_SENT_LAST = ("PGDATESTYLE", "PGTZ", "PGGEQO")
#: What libpq says where a password is missing, and Postgres where it is wrong: the driver has no code for either.
_NO_LOGIN = ("no password supplied", "password authentication failed")
#: What the server or libpq says of a login, a role, a database or a parameter that no time makes another. No such error
#: has a code.
_REFUSES = re.compile(
    r"authentication failed|no pg_hba\.conf entry|not permitted to log in|permission denied for database"
    r'|(role|database) "[^"]*" does not exist|unrecognized configuration parameter|invalid( \w+)? value'
    r"|does not support SSL|certificate|private key|GSSAPI encryption required|channel binding required"
    r"|authentication method requirement"
)
#: Variables by which libpq finds another server, whatever `PGHOST` says.
_USED_FIRST = ("PGSERVICE", "PGHOSTADDR")
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

_log = log.get_logger(__name__)


def conninfo(config: Config, application: str, settings: Mapping[str, str] | None = None) -> str:
    """The connection string: the configured address, weir's timeouts, and `settings` of the server for this session.

    `application` is the name that the server lists the connection under. What the environment says to libpq of forms,
    encoding and options is not heard, so that weir reads what it expects. Raises ConfigError for an address that is
    none.
    """
    for name in _SENT_LAST:
        os.environ.pop(name, None)
    given = _address(config)
    if config.postgres.url is None:
        for name in _USED_FIRST:
            os.environ.pop(name, None)  # they would lead past the embedded server
    if "passfile" in given:
        os.environ.pop("PGPASSWORD", None)  # it would be used before the file that the address names
    ours = " ".join(f"-c {name}={value}" for name, value in {**_FORMS, **(settings or {})}.items())
    merged: dict[str, object] = {**_TIMEOUTS, **given, "client_encoding": "UTF8", "application_name": application}
    merged["options"] = f"{given.get('options') or ''} {ours}".strip()
    return make_conninfo("", **{name: str(value) for name, value in merged.items()})


def environment(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the configured address in the variables that libpq reads (`PGHOST` and so on), for psql, say.

    Parameters for which libpq has no variable are left out. Raises ConfigError as `conninfo` does.
    """
    given = _address(config)
    outdoing = {*_USED_FIRST, *(["PGPASSWORD"] if "passfile" in given else [])}
    found = {name: value for name, value in environ.items() if name not in outdoing}
    for option in psycopg.pq.Conninfo.get_defaults():
        value = given.get(option.keyword.decode())
        if option.envvar is not None and value is not None:
            found[option.envvar.decode()] = str(value)
    return found


def _address(config: Config) -> dict[str, Any]:
    """The parts of the configured address."""
    try:
        given = conninfo_to_dict(config.dsn)
    except psycopg.ProgrammingError as e:  # its text may hold the password
        raise ConfigError("WEIR_POSTGRES must be postgresql://user:password@host:port/database") from e
    if "passfile" in given:
        _check_readable(Path(str(given["passfile"])))
    return given


def _check_readable(passfile: Path) -> None:
    """Raises ConfigError for a password file that another user may read and this one may not.

    libpq goes on without a password then. A file that is missing is no error: the server that makes it has not run yet.
    """
    try:
        passfile.open().close()
    except FileNotFoundError:
        pass
    except OSError as e:
        raise ConfigError(
            f"Postgres's password cannot be read: {passfile}: {e.strerror}; run this as the user that runs `weir up`"
        ) from e


def connect(config: Config, application: str, settings: Mapping[str, str] | None = None) -> psycopg.Connection:
    """A connection in autocommit mode: transactions are begun by name.

    Raises PostgresUnavailableError: NoPostgresError where nobody takes a connection there, PostgresRefusesError where
    the address cannot be right.
    """
    address = conninfo(config, application, settings)
    with connecting(config):
        return psycopg.connect(address, autocommit=True)


@contextmanager
def connecting(config: Config) -> Iterator[None]:
    """Raises the driver's errors of making a connection as weir's own, with the address; tells when it takes long."""
    address = _place(config)
    try:
        with waiting_for(f"Postgres at {address}"):
            yield
    except psycopg.OperationalError as e:
        line = " ".join(str(e).split())
        if any(said in line for said in _NO_LOGIN):
            raise PostgresRefusesError(f"Postgres at {address} rejected weir's login: {_login_remedy(config)}") from e
        if _REFUSES.search(line):
            variable = "WEIR_POSTGRES" if config.postgres.url else "WEIR_HOME"
            raise PostgresRefusesError(f"Postgres at {address} cannot be used as {variable} says: {line}") from e
        if e.sqlstate or "FATAL" in str(e):  # somebody answers, and does not let weir in, or not yet
            raise translate(e) from e
        hint = "" if config.postgres.url else " (is `weir up` running?)"
        told = f"no Postgres answers at {address}{hint}"
        if "refused" in str(e):
            raise NoPostgresError(told) from e
        raise PostgresUnavailableError(f"{told}: {line}") from e
    except psycopg.Error as e:
        raise translate(e) from e


def _login_remedy(config: Config) -> str:
    if config.postgres.url:
        return "WEIR_POSTGRES has no password, or a wrong one"
    return (
        f"{config.postgres_passfile} is not its password; set WEIR_HOME to the folder of the `weir up` that runs there"
    )


def _place(config: Config) -> str:
    """Where Postgres is, as host:port or as the folder of its socket; nothing of user or password."""
    given = conninfo_to_dict(config.dsn)
    host, port = given.get("host") or given.get("hostaddr") or "localhost", given.get("port") or 5432
    return f"{host}:{port}"


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
        return DataRefusedError(f"Postgres rejected a value: {line}")
    if no_partition(error):
        return PostgresUnavailableError(f"a partition was detached or dropped meanwhile: {line}")
    if isinstance(error, _NO_TABLE):
        return PostgresUnavailableError(
            f"Postgres does not have weir's tables yet; `weir migrate` creates them ({line})"
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and _READER in line:
        remedy = "" if _REMEDY in line else f"; {_REMEDY} GRANT {_READER} TO the user in WEIR_POSTGRES"
        return PostgresUnavailableError(f"Postgres denied permission: {line}{remedy}")
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
    for file in resources.files("weir.infra.migrations").iterdir():
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
            raise WeirError(f"Postgres holds migration {number:04d}_{name}, applied by a newer weir: upgrade this one")
        if known[number].checksum != checksum:
            raise WeirError(
                f"migration {number:04d}_{name} differs from the one applied to this Postgres: "
                "install the weir that applied it, or a newer one"
            )
        present.add(number)
    return present
