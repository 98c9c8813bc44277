"""Whether there is room on the disk: asked before a server starts, and read from a server's last words."""

from __future__ import annotations

from pathlib import Path

import psutil

from weir.infra.errors import DiskFullError

MIB = 1 << 20


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises DiskFullError where the disk that holds `folder` (which exists) has less than `needed` bytes free."""
    free = psutil.disk_usage(str(folder)).free
    if free < needed:
        raise disk_full(folder, f"{what} needs {needed // MIB} MiB to start, {free // MIB} MiB are free")


def disk_full(folder: Path, detail: str) -> DiskFullError:
    """The error for a full disk, with what helps."""
    return DiskFullError(f"no space left on the disk that holds {folder}: {detail}; make room, or move WEIR_HOME")
