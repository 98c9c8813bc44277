"""The wheel holds every file of weir's and nothing else, and runs without the repository."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.command import started, weir
from weir.infra import postgres
from weir.infra.config import Config

ROOT = Path(__file__).parents[3]
FOLDERS = ("schemas", "producers", "streams", "consumers", "infra")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def run(*command: str | Path, cwd: Path, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """weir's wheel, built from a copy, since a build leaves things behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("weir", *FOLDERS, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("wheel")
    run("-c", BUILD, built, cwd=source)
    [path] = built.glob("weir-*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_it_has_one_name_at_the_top(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"weir"}


def test_it_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    command = ["git", "ls-files", "--format=%(objectmode) %(path)", "weir", *FOLDERS]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = {path for mode, path in map(str.split, lines) if mode != "120000"} - {"infra/docker/Dockerfile"}
    assert {path if path.startswith("weir/") else f"weir/{path}" for path in files} <= set(wheel.namelist())


VISITS = """
import msgspec
import weir

class Visit(msgspec.Struct):
    page: str

class Visits(msgspec.Struct):
    window: dict[str, str]
    page: str
    count: int
    final: bool

VISITS = weir.Topic("visits", "producers", "Visits of pages", "free", Visit)
PARTIALS = weir.Topic("visits-partials", "mypackage", "Between the stages", "none", None, internal=True)
COUNTS = weir.Topic("visit-counts", "mypackage", "Visits per page and minute", "window and page", Visits)

def job(config):
    \"\"\"Counts visits per page and minute.\"\"\"
    windows = weir.TumblingWindows(size=60_000, grace=5_000, retention=600_000)
    return weir.Windowed(
        name="visits", source=VISITS, key=["page"], windows=windows, partials=PARTIALS, output=COUNTS,
    )

def tables(config):
    \"\"\"Writes visits to Postgres.\"\"\"
    columns = {"page": "text", "count": "int8"}
    row = lambda one, _: (one.page, one.count)
    return [weir.Table(topic=COUNTS, name="visits", columns=columns, key=("page",), row=row)]

app = weir.App(jobs={"visits": job}, stores={"visits-store": tables})
"""


def test_a_package_of_ones_own_runs_from_an_installed_weir(
    wheel: zipfile.ZipFile, tmp_path: Path, environ: dict[str, str], config: Config
) -> None:
    """Topic, job, worker, sink and its table, started by `weir up`, with nothing of the repository on the path."""
    wheel.extractall(tmp_path / "site")
    (tmp_path / "project/mypackage").mkdir(parents=True)
    (tmp_path / "project/mypackage/visits.py").write_text(VISITS)
    (tmp_path / "project/mypackage/__init__.py").write_text("")
    own = environ | {"PYTHONPATH": str(tmp_path / "site"), "WEIR_APPS": "mypackage.visits"}
    project = tmp_path / "project"
    drawn = weir(
        environ | {"PYTHONPATH": own["PYTHONPATH"]}, "worker", "mypackage.visits:job", "--explain", cwd=project
    )
    assert b"visit-counts" in drawn.stdout, drawn.stderr
    with started(own, "up", "--only", "worker-visits,visits-store", cwd=project) as up:
        up.wait_for(lambda: any(b"worker-visits" in line for line in up.out))
        said = weir(own, "produce", "visits", stdin=b'{"page": "home"}\n{"page": "home"}\n', cwd=project)
        assert said.stdout == b"accepted 2, refused 0\n", said.stderr
        with postgres.connect(config, "test") as connection:
            up.wait_for(lambda: _rows(connection) == [("home", 2)])
        assert up.interrupt() == 0


def _rows(connection: psycopg.Connection) -> list[tuple[str, int]]:
    with contextlib.suppress(psycopg.errors.UndefinedTable):  # the sink makes it
        return connection.execute("SELECT page, count FROM visits").fetchall()
    return []


def test_it_runs_without_the_repository(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    program = "import weir; print(weir.__file__); from weir.cli.main import main; main()"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environ["PYTHONPATH"] = str(tmp_path / "site")
    said = run("-c", program, "config", cwd=tmp_path, environ=environ)
    assert said.startswith(str(tmp_path))
    assert "WEIR_KAFKA" in said
