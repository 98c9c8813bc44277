"""Where the archive's files are: a folder of this machine, or a bucket of an object store that speaks S3."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from weir.consumers.archive.manifest import ArchivedFile
from weir.infra.config.secrets import shown
from weir.infra.errors import ArchiveDamagedError, ArchiveUnavailableError, ConfigError

#: Seconds to connect and to wait for an answer, and how often a request is tried.
_CONNECT_S, _REQUEST_S, _TRIES = 5, 30, 3
#: How the library says a 403: it gives no number for those that it has a name for.
_DENIED = ("AWS Error ACCESS_DENIED", "HTTP status 403")


class ArchiveStorage:
    """One folder of the archive, `file:///…` or `s3://…`. Every method raises ArchiveUnavailableError.

    Credentials, region and endpoint of S3 are those of the usual variables: AWS_ACCESS_KEY_ID and so on,
    AWS_REGION, AWS_ENDPOINT_URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        scheme, _, path = url.partition("://")
        self._local = scheme == "file"
        self._root = path
        self.filesystem = pafs.LocalFileSystem() if self._local else _s3(_endpoint(os.environ))

    def path(self, name: str) -> str:
        """A file of this place, as its filesystem names it."""
        return f"{self._root}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A new file. It is durable once the block is left without an error; what an error leaves is no whole file."""
        with self._translated("written"):
            if self._local:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            stream = self.filesystem.open_output_stream(self.path(name))
            try:
                yield stream
            except BaseException:
                with suppress(OSError):  # the first error is the one to tell
                    stream.close()
                raise
            stream.close()
            if self._local:
                _sync(Path(self.path(name)))

    @contextmanager
    def reading(self, name: str) -> Iterator[pa.NativeFile]:
        """A file that is there. Raises ArchiveDamagedError where it is gone, or the block cannot decode it."""
        with self._translated("read"):
            try:
                with self.filesystem.open_input_file(self.path(name)) as stream:
                    yield stream
            except (OSError, pa.ArrowException) as e:
                raise read_error(f"{self.url}/{name}", e) from e

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """The length of each file in bytes; None of what is no file."""
        with self._translated("read"):
            found = self.filesystem.get_file_info([self.path(name) for name in names])
        return [info.size if info.type == pafs.FileType.File else None for info in found]

    def clear(self) -> int:
        """Deletes what is in this place, and gives the number of files. One that is not there is empty."""
        with self._translated("cleared"):
            everything = pafs.FileSelector(self._root, allow_not_found=True, recursive=True)
            files = [info.path for info in self.filesystem.get_file_info(everything) if info.is_file]
            for path in files:
                self.filesystem.delete_file(path)
            if self._local and Path(self._root).is_dir():
                self.filesystem.delete_dir(self._root)
        return len(files)

    def reach(self) -> None:
        """Asks for the bucket, or the folder, as a whole: where that cannot be had, no file in it can.

        A store that does not permit the question has answered. Who may not ask for its bucket may yet write there.
        """
        whole = self._root if self._local else self._root.partition("/")[0]
        try:
            with self._translated("reached"):
                found = self.filesystem.get_file_info(whole)
        except ArchiveUnavailableError as e:
            if not self._local and any(form in str(e) for form in _DENIED):
                return
            raise
        if found.type != pafs.FileType.Directory:
            raise ArchiveUnavailableError(f"{self.url} cannot be reached: {whole} does not exist")

    @contextmanager
    def _translated(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise ArchiveUnavailableError(f"{self.url} cannot be {done}: {one_line(e)}") from e


def check(files: Sequence[ArchivedFile]) -> None:
    """Raises ArchiveDamagedError where a file is gone or has another length, and ArchiveUnavailableError."""
    by_place: dict[str, list[ArchivedFile]] = {}
    for file in files:
        by_place.setdefault(file.place, []).append(file)
    for url, group in by_place.items():
        for file, size in zip(group, ArchiveStorage(url).sizes([file.name for file in group]), strict=True):
            if size is None:
                raise ArchiveDamagedError(f"{url}/{file.name} is missing: it was deleted after it was archived")
            if size != file.bytes:
                raise ArchiveDamagedError(
                    f"{url}/{file.name} was changed after it was archived: it has {size} bytes, {file.bytes} were "
                    "written"
                )


def read_error(file: str, error: Exception) -> ArchiveUnavailableError:
    """The error for a file that could not be read, or only in part: a disk or a store that fails says so itself."""
    text = one_line(error)
    if isinstance(error, FileNotFoundError):
        return ArchiveDamagedError(f"{file} is missing: it was deleted after it was archived")
    if "AWS Error" in text or (isinstance(error, OSError) and error.errno is not None):
        return ArchiveUnavailableError(f"{file} cannot be read: {text}")
    return ArchiveDamagedError(f"{file} is damaged: it was changed after it was archived: {text}")


def one_line(error: BaseException) -> str:
    """Returns an error's text without line breaks."""
    return " ".join(str(error).split())


def _endpoint(environ: Mapping[str, str]) -> str | None:
    """Read from the environment, as the library reads the credentials: these variables are not weir's own."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None


@lru_cache(maxsize=8)
def _s3(endpoint: str | None) -> pafs.S3FileSystem:
    """Returns the object store. Raises ConfigError for an endpoint that is not an address."""
    options = {
        "connect_timeout": _CONNECT_S,
        "request_timeout": _REQUEST_S,
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    }
    if endpoint is not None:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
            raise ConfigError(f"AWS_ENDPOINT_URL={shown(endpoint)!r} cannot be used: must be http[s]://host:port")
        options |= {"scheme": url.scheme, "endpoint_override": url.netloc}
    return pafs.S3FileSystem(**options)


def _sync(file: Path) -> None:
    """Flushes a file, and the folders that lead to it, to the disk."""
    for path in (file, *file.parents):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
