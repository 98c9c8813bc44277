"""Sets up the virtual environment from a lock, before anything is installed: only the standard library is used.

    python -P infra/environment.py set-up .venv requirements.txt [--sync]
    python -P infra/environment.py measure requirements.txt requirements-dev.txt

`set-up` installs exactly the packages of the lock, checks their hashes, and installs weir itself, editable. The
packages are fetched by uv: the one on the PATH, or the one that `requirements-dev.txt` locks, which pip fetches first.
Where uv cannot reach the registry (uv does not know pip's configuration: mirrors, certificates), pip fetches them.
`measure` writes into the first line of each lock how many packages it has and how much of them is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEVELOPMENT = ROOT / "requirements-dev.txt"
KAFKA_LOCK = ROOT / "infra" / "servers" / "kafka.lock"
#: The folders with weir's code.
PACKAGES = ("weir", "schemas", "infra", "streams", "producers", "consumers")
MB = 1_000_000
#: What moves a terminal's cursor or sets its colour; a line about one package; and the beginning of one.
CONTROL = re.compile(rb"\x1b\[[\d;?]*[A-Za-z]|\r")
LISTED = re.compile(rb" [+~-] \S+==")
MAY_BE_LISTED = re.compile(rb"|\x1b.*| ([+~-].*)?")
HEADER = re.compile(r"# (\d+) packages, (\d+) MB")


class SetupError(Exception):
    """The environment cannot be set up. The text says why, and what to do."""


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="environment.py")
    commands = parser.add_subparsers(dest="command", required=True)
    setting_up = commands.add_parser("set-up")
    setting_up.add_argument("folder", type=Path)
    setting_up.add_argument("lock", type=Path)
    setting_up.add_argument("--sync", action="store_true", help="remove what the lock does not name")
    measuring = commands.add_parser("measure")
    measuring.add_argument("locks", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    try:
        if given.command == "measure":
            for lock in given.locks:
                measure(lock)
        else:
            set_up(given.folder, given.lock, sync=given.sync)
    except (SetupError, OSError) as e:
        print(f"weir: {e}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as e:
        print(
            f"weir: {Path(e.cmd[0]).name} could not set up the environment (exit code {e.returncode})", file=sys.stderr
        )
        return 1
    return 0


def set_up(folder: Path, lock: Path, *, sync: bool) -> None:
    """Makes the environment where there is none, and installs the lock's packages and weir. Raises SetupError."""
    python = folder / "bin" / "python"
    if not python.exists():
        make(folder)
    print(announcement(folder, lock), file=sys.stderr, flush=True)
    uv = shutil.which("uv") or locked_uv(folder)
    # Copies across file systems are no news, and activated environments are not meant.
    environment = os.environ | {"UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "copy"), "VIRTUAL_ENV": str(folder)}
    command = ["sync"] if sync else ["install", "--requirement"]
    fetched = uv is not None and not unlisted(
        [uv, "pip", command[0], "--python", str(python), "--require-hashes", *command[1:], str(lock)], environment
    )
    if not fetched:
        print("weir: uv could not fetch the packages; trying with pip", file=sys.stderr, flush=True)
        if not (folder / "bin" / "pip").exists():
            subprocess.run([python, "-m", "ensurepip"], check=True)
        pip(folder, "--require-hashes", "--requirement", str(lock))
    with fetching_kafka(python):
        install_weir(folder, uv if fetched else None, environment)
        if not sync:  # a set-up to run: several processes start at once next, and each would compile what all import
            places = [folder / "lib", *(ROOT / name for name in PACKAGES)]
            subprocess.run([python, "-m", "compileall", "-qq", "-j", "0", *places], check=False)


def install_weir(folder: Path, uv: str | None, environment: Mapping[str, str]) -> None:
    """Installs weir itself, editable, by uv or, where that is None, by pip. Raises subprocess.CalledProcessError."""
    # A path entry and no import hook: type checkers and editors do not run hooks (docs/adr/0005-top-level-packages.md).
    weir = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat", "--editable", str(ROOT)]
    if uv is not None:
        python = folder / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *weir], env=environment, check=True)
    else:
        pip(folder, "--quiet", *weir)


@contextlib.contextmanager
def fetching_kafka(python: Path) -> Iterator[None]:
    """Downloads Apache Kafka while the block runs, unless WEIR_KAFKA names another. The first start tries again."""
    if os.environ.get("WEIR_KAFKA"):
        yield
        return
    command = [str(python), "-m", "weir.infra.servers.jars"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}):
        yield


def unlisted(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs uv and returns its exit code. Shows what it says, progress and errors, but for the list of all packages."""
    # uv shows progress at a terminal only.
    ours, its = pty.openpty() if sys.stderr.isatty() else os.pipe()
    if sys.stderr.isatty():
        size = os.get_terminal_size(sys.stderr.fileno())
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))
    with subprocess.Popen(command, env=environment, stderr=its) as process, open(ours, "rb", buffering=0) as said:
        os.close(its)
        held = b""
        with contextlib.suppress(OSError):  # how a terminal tells that nobody writes to it any more
            while chunk := said.read(1 << 16):
                shown, held = without_list(held + chunk)
                sys.stderr.buffer.write(shown)
                sys.stderr.flush()
    sys.stderr.buffer.write(held)
    sys.stderr.flush()
    return process.returncode


def without_list(said: bytes) -> tuple[bytes, bytes]:
    r"""Returns uv's output without the line per package, and the last, incomplete line that may still be one.

    >>> without_list(b"Installed 2 packages in 3ms\n + aiohttp==3.14.5\n + uv==0.11\nDone\n \x1b[32m+")
    (b'Installed 2 packages in 3ms\nDone\n', b' \x1b[32m+')
    """
    *lines, last = said.split(b"\n")
    shown = b""
    for line in lines:
        listed = LISTED.match(CONTROL.sub(b"", line))
        shown += b"".join(code for code in CONTROL.findall(line) if code[-1:] not in b"m\r") if listed else line + b"\n"
    return (shown, last) if MAY_BE_LISTED.fullmatch(CONTROL.sub(b"", last)) else (shown + last, b"")


def make(folder: Path) -> None:
    """Makes an empty environment. Raises SetupError where this Python cannot, and no uv is there to do it."""
    if (uv := shutil.which("uv")) is not None:
        subprocess.run([uv, "venv", "--quiet", "--seed", "--clear", "--python", sys.executable, folder], check=True)
        return
    try:
        import ensurepip  # noqa: F401 - Debian has it in a package of its own
        import venv
    except ImportError as e:
        raise SetupError(
            "this Python cannot make environments: install python3-venv (Debian, Ubuntu), "
            "or name another Python with `make setup PYTHON=/path/to/python`"
        ) from e
    venv.EnvBuilder(clear=folder.exists(), with_pip=True, symlinks=True).create(folder)


def announcement(folder: Path, lock: Path) -> str:
    """Says how much is fetched, at most: what is cached is not fetched again."""
    packages, size = figures(lock)
    jars = sum(int(line.split()[2]) for line in KAFKA_LOCK.read_text().splitlines())
    return (
        f"weir: setting up {folder}: {packages} packages, {size} MB to fetch; Apache Kafka, {jars / MB:.0f} MB, "
        f"follows. What was fetched before is not fetched again."
    )


def figures(lock: Path) -> tuple[int, int]:
    """The lock's packages, and MB to download. Raises SetupError where its first line does not say."""
    if (found := HEADER.match(lock.read_text())) is None:
        raise SetupError(f"{lock} does not begin with its size: run `make lock`")
    return int(found[1]), int(found[2])


def locked_uv(folder: Path) -> str | None:
    """The uv of the environment, fetched by pip where it is missing; None where pip cannot fetch it."""
    uv = folder / "bin" / "uv"
    if not uv.exists():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(entry(DEVELOPMENT.read_text(), "uv"))
            file.flush()
            try:
                pip(folder, "--quiet", "--require-hashes", "--requirement", file.name)
            except subprocess.CalledProcessError:
                return None
    return str(uv)


def entry(lock: str, package: str) -> str:
    """One package's entry of a lock, with its hashes. Raises SetupError where there is none."""
    if (found := re.search(rf"(?m)^{re.escape(package)}==.*(?:\n +.*)*", lock)) is None:
        raise SetupError(f"{DEVELOPMENT.name} does not lock {package}: run `make lock`")
    return found[0] + "\n"


def pip(folder: Path, *arguments: str) -> None:
    """Runs pip install. Raises subprocess.CalledProcessError."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def measure(lock: Path) -> None:
    """Downloads all of the lock's packages for this machine, and writes their number and size into its first line."""
    text = re.sub(r"\A# \d+ packages.*\n", "", lock.read_text())
    with tempfile.TemporaryDirectory() as folder:
        environment, fetched = Path(folder, "environment"), Path(folder, "fetched")
        make(environment)  # this Python may have no pip, which alone downloads and does not install
        command = f"{environment}/bin/python -m pip download --quiet --disable-pip-version-check --no-deps"
        which = ["--only-binary=:all:", "--dest", str(fetched), "--requirement", str(lock)]
        subprocess.run([*command.split(), *which], check=True)
        sizes = [file.stat().st_size for file in fetched.iterdir()]
    python = f"CPython {sys.version_info.major}.{sys.version_info.minor}"
    line = f"# {len(sizes)} packages, {sum(sizes) / MB:.0f} MB with {python} on {sys.platform} {os.uname().machine}\n"
    lock.write_text(line + text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
