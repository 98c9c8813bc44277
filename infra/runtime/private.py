"""Folders and files that weir's own user alone may enter, read and write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import StartError

#: What an earlier weir has left in its home, one of them at least.
_OURS = frozenset({"run", "kafka", "postgres", "state", "logs"})

_log = log.get_logger(__name__)


def private_folder(path: Path) -> None:
    """Makes the folder with mode 0700 where it is missing, and its parents with their usual mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def private_home(config: Config) -> None:
    """Makes `WEIR_HOME` with mode 0700, or gives this mode to one that is there, as an earlier weir left it.

    Raises StartError for a folder of another user, who could replace what weir trusts; and where others may enter the
    folder and weir may not change that, or should not: closing /tmp, or a folder in which there is something else than
    a weir's home, would lock out those who use it.
    """
    home = config.home
    try:
        private_folder(home)
        found = home.stat()
        if found.st_mode & stat.S_ISVTX and found.st_mode & 0o022:
            raise StartError(f"WEIR_HOME={home} is a shared folder: choose a folder of weir's own, such as {home}/weir")
        if found.st_uid != os.geteuid():
            raise StartError(
                f"WEIR_HOME={home} belongs to user id {found.st_uid}, and weir runs as {os.geteuid()}: run weir as that"
                f" user, or choose another folder"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            inside = {entry.name for entry in home.iterdir()}
            if inside and not inside & _OURS:
                raise StartError(
                    f"WEIR_HOME={home} is open to other users and holds what is not weir's: choose a folder of weir's"
                    f" own, such as {home / 'weir'}"
                )
            home.chmod(0o700)
            _log.info("home.closed", home=str(home), mode_before=f"{stat.S_IMODE(found.st_mode):04o}")
    except PermissionError as e:
        raise StartError(
            f"WEIR_HOME={home} cannot be closed to other users ({e.strerror}): give weir a folder that belongs to"
            f" user id {os.geteuid()}"
        ) from e
    except OSError as e:
        raise StartError(f"WEIR_HOME={home} cannot be used: {e.strerror}: {e.filename}") from e


def write_private(path: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """Replaces the file's content as a whole, with mode 0600; what is written survives a loss of power.

    `owner`: user and group id that the file is given, instead of this process's. Raises OSError.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if owner is not None:
            os.fchown(descriptor, *owner)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
