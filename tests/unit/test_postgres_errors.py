"""What Postgres says, in weir's own words: what waiting helps against, and what is a value's fault."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from infra.errors import DataRefusedError, PostgresUnavailableError, RetryableError
from infra.postgres import is_refusal, translate


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
