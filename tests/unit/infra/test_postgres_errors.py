"""Errors of Postgres as errors of weir: those that pass with time, and those that a value causes."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from weir.infra.config import Config
from weir.infra.errors import (
    DataRefusedError,
    PostgresRefusesError,
    PostgresUnavailableError,
    RetryableError,
    WeirError,
)
from weir.infra.postgres import connecting, is_refusal, translate


@pytest.mark.parametrize(
    "error",
    [
        errors.DiskFull, errors.TooManyConnections, errors.OutOfMemory, errors.LockNotAvailable, errors.QueryCanceled,
        errors.ReadOnlySqlTransaction, errors.AdminShutdown, errors.CannotConnectNow, errors.DeadlockDetected,
        errors.SerializationFailure, errors.UndefinedTable, errors.IdleInTransactionSessionTimeout,
        psycopg.OperationalError, psycopg.InterfaceError,
    ],
    ids=lambda error: error.__name__,
)  # fmt: skip
def test_what_passes_is_waited_for(error: type[psycopg.Error]) -> None:
    assert isinstance(translate(error("it is so")), PostgresUnavailableError)
    assert not is_refusal(error("it is so"))


@pytest.mark.parametrize(
    "error",
    [
        errors.UntranslatableCharacter, errors.NumericValueOutOfRange, errors.InvalidTextRepresentation,
        errors.CharacterNotInRepertoire, errors.ForeignKeyViolation, errors.NotNullViolation,
        errors.StatementTooComplex,
    ],
    ids=lambda error: error.__name__,
)  # fmt: skip
def test_what_a_value_is_to_blame_for_is_refused(error: type[psycopg.Error]) -> None:
    assert isinstance(translate(error("it is so")), DataRefusedError)
    assert is_refusal(error("it is so"))


def test_a_partition_that_is_gone_is_nobodys_fault() -> None:
    assert isinstance(translate(errors.CheckViolation("no partition of relation")), PostgresUnavailableError)


def test_a_role_that_is_not_granted_is_waited_for_and_what_to_run_is_said() -> None:
    found = translate(errors.InsufficientPrivilege('permission denied to set role "weir_reader"'))
    assert isinstance(found, PostgresUnavailableError)
    assert "an administrator must run: GRANT weir_reader TO" in str(found)
    assert not isinstance(translate(errors.InsufficientPrivilege("permission denied for table x")), RetryableError)


@pytest.mark.parametrize("error", [errors.ProgramLimitExceeded, errors.InsufficientPrivilege, errors.UndefinedColumn])
def test_what_the_server_or_the_program_is_to_blame_for_costs_no_row(error: type[psycopg.Error]) -> None:
    assert not is_refusal(error("it is so"))
    assert not isinstance(translate(error("it is so")), DataRefusedError)


def test_a_refusal_is_not_tried_again() -> None:
    assert not issubclass(DataRefusedError, RetryableError)


def raised(said: str) -> WeirError:
    """Returns the error that a failed connection with this message of libpq becomes."""
    with pytest.raises(WeirError) as caught, connecting(Config().replace(WEIR_POSTGRES="postgresql://weir@db/weir")):
        raise psycopg.OperationalError(said)
    return caught.value


@pytest.mark.parametrize(
    "said",
    [
        'FATAL:  password authentication failed for user "weir"',
        "fe_sendauth: no password supplied",
        'FATAL:  role "weir" does not exist',
        'FATAL:  database "weir" does not exist',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "weir", database "weir", no encryption',
        'connection is bad: invalid sslmode value: "on"',
        'connection is bad: invalid integer value "54x" for connection option "port"',
        "server does not support SSL, but SSL was required",
        'root certificate file "/root/.postgresql/root.crt" does not exist',
        'FATAL:  unrecognized configuration parameter "serch_path"',
    ],
)
def test_an_address_that_no_time_makes_right_is_told_apart(said: str) -> None:
    error = raised(said)
    assert isinstance(error, PostgresRefusesError)
    assert "WEIR_POSTGRES" in str(error)
    assert "db:5432" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        "failed to resolve host 'db': [Errno -2] Name or service not known",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        'FATAL:  database "weir" is being accessed by other users',
        "server closed the connection unexpectedly",
        "connection timeout expired",
        "connection refused",
    ],
)
def test_a_server_that_may_yet_answer_is_waited_for(said: str) -> None:
    error = raised(said)
    assert isinstance(error, PostgresUnavailableError)
    assert not isinstance(error, PostgresRefusesError)
    assert said.removeprefix("FATAL: ").strip() in str(error) or "db:5432" in str(error)
