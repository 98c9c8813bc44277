"""Apache Kafka's jars: downloaded once per user by their Maven coordinates, checked, shared by every home.

`kafka.lock` lists them in the order of the class path, one `group:artifact:version[:classifier] sha256 bytes` a line;
`make lock` writes it (`weir.infra.servers.lock`). A download is made beside its place and moved there whole, so that an
interrupted one leaves nothing that could be taken for a good one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import rich.console
import rich.progress

from weir.infra.errors import DownloadError, StartError
from weir.infra.servers.disk_space import MIB, disk_full

KAFKA_VERSION = "4.1.0"


@dataclass(frozen=True)
class Jar:
    """One line of a lock; `size` is in bytes, `classifier` empty for a project's main jar."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int
    classifier: str = ""

    @property
    def filename(self) -> str:
        """The file's name, in the repository and in the cache."""
        return "-".join(filter(None, (self.artifact, self.version, self.classifier))) + ".jar"


def parse(lock: str) -> list[Jar]:
    """The lines of a lock."""
    jars = []
    for line in lock.splitlines():
        coordinates, sha256, size = line.split()
        group, artifact, version, *classifier = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256, int(size), *classifier))
    return jars


def locked() -> list[Jar]:
    """The lines of `kafka.lock`."""
    return parse(resources.files("weir.infra.servers").joinpath("kafka.lock").read_text())


def cache_folder() -> Path:
    """Where this user's downloads are kept (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir"


def class_path() -> list[Path]:
    """The paths of the embedded Kafka's jars, downloaded as `kept` does."""
    return kept(f"kafka-{KAFKA_VERSION}", locked())


def main() -> None:
    """Downloads the embedded Kafka ahead of its first start. Prints why it could not: that start tries again."""
    try:
        class_path()
    except StartError as e:
        print(f"weir: {e}", file=sys.stderr)


def kept(name: str, jars: list[Jar]) -> list[Path]:
    """The paths of jars in the cache's folder `name`, downloaded where they are not there yet.

    Blocks. Raises DownloadError, DiskFullError.
    """
    folder = cache_folder() / name
    if not whole(folder, jars):
        with _alone(folder.with_name(folder.name + ".lock")):
            if not whole(folder, jars):
                _download(folder, jars)
    return [folder / jar.filename for jar in jars]


def whole(folder: Path, jars: list[Jar]) -> bool:
    """Whether every jar is there at its size. Contents were checked when they were downloaded."""
    with contextlib.suppress(OSError):
        return all((folder / jar.filename).stat().st_size == jar.size for jar in jars)
    return False


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Locks out other processes while the block runs; the kernel frees the lock of a process that dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rich.console.Console(stderr=True).print("Another weir is downloading Apache Kafka: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(folder: Path, jars: list[Jar]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    what = f"Apache Kafka {KAFKA_VERSION} ({len(jars)} jars, {sum(jar.size for jar in jars) // MIB} MiB)"
    try:
        for stale in (partial, folder):
            shutil.rmtree(stale, ignore_errors=True)
        (partial / "jars").mkdir(parents=True)
        with _progress() as progress:
            bar = progress.add_task(f"Apache Kafka {KAFKA_VERSION}", total=sum(jar.size for jar in jars))
            for jar in jars:
                _fetch(jar, partial, lambda n: progress.advance(bar, n))
        (partial / "jars").replace(folder)
    except OSError as e:  # requests' errors are OSErrors as well
        if e.errno == errno.ENOSPC:
            raise disk_full(partial.parent, f"{what} did not fit") from e
        raise DownloadError(
            f"{what} could not be downloaded: weir needs the network for this once, on its first start; "
            f"or set WEIR_KAFKA to a Kafka that exists ({_root(e)})"
        ) from e
    except RuntimeError as e:  # jgo's, for what no repository has
        raise DownloadError(f"{what} could not be downloaded: {e}") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _root(error: BaseException) -> BaseException:
    """The error behind all others: "Name or service not known", and not what requests makes of it."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def _fetch(jar: Jar, partial: Path, advance: Callable[[int], None]) -> None:
    """Downloads one jar into `partial`/jars and checks its bytes."""
    from jgo.maven import MavenContext, PythonResolver

    @contextlib.contextmanager
    def report(_filename: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    resolver = PythonResolver(progress_callback=report)
    maven = MavenContext(resolver=resolver, repo_cache=partial / "maven", local_repos=[])
    got: Path = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact(jar.classifier).resolve()
    if hashlib.sha256(got.read_bytes()).hexdigest() != jar.sha256:
        raise DownloadError(f"{jar.filename} was downloaded but is not the file that weir expects; try again")
    got.replace(partial / "jars" / jar.filename)


def _progress() -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("Downloading {task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    )


if __name__ == "__main__":
    main()
