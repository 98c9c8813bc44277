"""What is installed from a wheel is whole, and is nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"schemas", "producers", "streams", "consumers", "infra"}
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
    for name in (*PACKAGES, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("wheel")
    run("-c", BUILD, built, cwd=source)
    [path] = built.glob("weir-*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_it_holds_the_five_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_it_holds_every_file_of_theirs(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(listed.splitlines()) - {"infra/docker/Dockerfile"} <= set(wheel.namelist())


def test_it_runs_without_the_repository(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    program = "import infra; print(infra.__file__); from infra.cli.main import main; main()"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environ["PYTHONPATH"] = str(tmp_path / "site")
    said = run("-c", program, "config", cwd=tmp_path, environ=environ)
    assert said.startswith(str(tmp_path))
    assert "WEIR_KAFKA" in said
