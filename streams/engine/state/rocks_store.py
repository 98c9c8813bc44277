"""Bytes by key in RocksDB: a folder for each task, changed by one batch per commit.

A batch goes to RocksDB's log without waiting for the disk. A process that is killed loses nothing by that: what was
written is with the kernel. A power cut loses the last batches, but whole ones, and the latest first: RocksDB takes up
its log to the first gap. Then the metadata that is recorded is not the committed one, and all is built again from the
changelog, which is replicated and is the truth. So waiting for the disk would buy nothing but a shorter restart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from weir.infra.errors import StoppedError
from weir.infra.log import get_logger
from weir.streams.engine.core.errors import EngineError

log = get_logger(__name__)

T = TypeVar("T")

#: What RocksDB may take of a process's memory in bytes, for all its partitions together: blocks that were read, indexes
#: and filters, and of it at most WRITE_BUFFERS for what is not in a file yet.
MEMORY = 256 << 20
WRITE_BUFFERS = 64 << 20
#: A partition's changes go into a file when they are so many bytes.
WRITE_BUFFER = 16 << 20
#: Files that a partition keeps open.
OPEN_FILES = 256
#: Before all keys of a table: those have eight bytes at least.
HEAD = b"\0"

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


class RocksStore:
    """The entries in `folder` (None: a temporary folder that is removed with this object), and the metadata they belong
    to.

    Where another process still holds the folder, a paused one that has lost the partition, one beside it is used: a
    lock that a living process holds is never broken. `close` may be called at any time from any thread; whoever uses
    the store after it gets StoppedError.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            made = tempfile.mkdtemp(prefix="weir-state-")
            weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
            folder = Path(made) / "state"
        self._base = self.folder = folder
        self._using = threading.Lock()
        self._db: Rdict | None = None
        self._locked: int | None = None
        self._closed = False

    def open(self, metadata: str | None) -> bytes | None:
        """The notes that were written with just this metadata. None: there are none such, and the store is empty.

        Raises EngineError where no folder can be had.
        """
        with self._using:
            if self._closed:
                raise StoppedError(f"the state in {self._base} was closed before it was opened")
            self._release()
            try:
                return self._open(metadata)
            except Exception as e:
                self._release()
                raise EngineError(f"state cannot be kept in {self._base}: {e}") from e

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, None where there is none."""
        found: bytes | None = self._do("read", lambda db: db.get(key))
        return found

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value at each of these keys."""
        found: list[bytes | None] = self._do("read", lambda db: db.get(keys))
        return found

    def scan(self, prefix: bytes, size: int) -> Iterator[tuple[bytes, bytes]]:
        """Yields the entries whose keys begin with `prefix`, in order of their keys; there must be `size` of them."""
        options = ReadOptions()
        options.set_iterate_upper_bound(_after(prefix))
        found = 0
        for entry in self._do("read", lambda db: db.items(from_key=prefix, read_opt=options)):
            found += 1
            yield entry
        if found != size:  # RocksDB's iterators end at a block that cannot be read as if nothing followed
            raise self._broken(f"Corruption: {found} of {size} entries could be read")

    def write(
        self,
        changes: Iterable[tuple[bytes, bytes | None]],
        gone: Iterable[bytes] = (),
        metadata: str | None = None,
        notes: bytes = b"",
    ) -> None:
        """Puts `changes` (None deletes), after all that begins with one of `gone` is deleted: all of it or nothing.

        `metadata`: what is now kept is what was committed with it; None: what is kept belongs to no commit, so that it
        is not taken up again. Raises EngineError where it cannot be written.
        """
        batch = WriteBatch(raw_mode=True)
        for prefix in gone:
            batch.delete_range(prefix, _after(prefix))
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if metadata is None:
            batch.delete(HEAD)
        else:
            batch.put(HEAD, _pack((metadata, notes)))
        self._do("written", lambda db: db.write(batch))

    def close(self) -> None:
        """Lets go of the folder. What was written stays."""
        self._closed = True
        with self._using:
            self._release()

    def _do(self, what: str, use: Callable[[Any], T]) -> T:
        with self._using:
            if self._db is None:
                raise StoppedError(f"the state in {self.folder} is closed")
            try:
                return use(self._db)
            except Exception as e:  # noqa: BLE001 - rocksdict has nothing more special; it is raised below
                failure = e
        if "Corruption" in str(failure):
            raise self._broken(str(failure)) from failure
        raise EngineError(f"state in {self.folder} cannot be {what}: {failure}") from failure

    def _broken(self, why: str) -> EngineError:
        """Removes what cannot be read, or the next process would end at it again."""
        with self._using:
            self._release()
            shutil.rmtree(self.folder, ignore_errors=True)
        return EngineError(
            f"state in {self.folder} was damaged, and is removed; the next start builds it again from Kafka: {why}"
        )

    def _open(self, metadata: str | None) -> bytes | None:
        """Takes the folder that has what is asked for, else the first that is free, emptied. Other free ones go."""
        self._base.parent.mkdir(parents=True, exist_ok=True)
        beside = sorted(self._base.parent.glob(f"{self._base.name}~*.lock"))
        folders = [self._base, *(path.with_suffix("") for path in beside)]
        free: Path | None = None
        for folder in [*folders, self._base.with_name(f"{self._base.name}~{len(folders)}")]:
            if free is not None and folder not in folders:
                break
            locked = _lock(folder)
            if locked is None:
                log.warning("state.held", folder=str(folder))
                continue
            notes = self._take_up(folder, metadata)
            if notes is None and free is not None:
                os.close(locked)
                continue
            if self._locked is not None:
                os.close(self._locked)
            self.folder, self._locked, free = folder, locked, folder
            if notes is not None:
                return notes
        if free is None:
            raise EngineError("other processes hold this folder and each one beside it: end those that are left over")
        self._db = Rdict(str(self.folder), _options())
        return None

    def _take_up(self, folder: Path, metadata: str | None) -> bytes | None:
        """The notes in this folder, now open; None: it has not what is asked for, and is removed."""
        if folder.exists() and metadata is not None:
            try:
                db = Rdict(str(folder), _options())
                head = db.get(HEAD)
                recorded, notes = (None, b"") if head is None else _unpack(head)
                if recorded == metadata:
                    self._db = db
                    return notes
                db.close()
            except Exception as e:  # noqa: BLE001 - whatever it is, the state can be had without it
                log.warning("state.damaged", folder=str(folder), error=str(e))
        if folder.exists():
            shutil.rmtree(folder)
        return None

    def _release(self) -> None:
        db, self._db = self._db, None
        locked, self._locked = self._locked, None
        try:
            if db is not None:
                db.close()
        except Exception as e:  # noqa: BLE001 - it is no longer needed, and what was written is in its log
            log.warning("state.close_failed", folder=str(self.folder), error=str(e))
        finally:
            if locked is not None:
                os.close(locked)


def _lock(folder: Path) -> int | None:
    """A lock on a folder, held until the descriptor is closed or the process ends; None where another has it.

    RocksDB has one of its own, inside the folder: under that a folder cannot be removed.
    """
    descriptor = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _after(prefix: bytes) -> bytes:
    """The least key after all that begin with the prefix, which is not all 0xff."""
    return (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")


@cache
def _shared() -> tuple[Cache, WriteBufferManager]:
    """The memory that all stores of this process share."""
    blocks = Cache(MEMORY)
    return blocks, WriteBufferManager.new_write_buffer_manager_with_cache(WRITE_BUFFERS, False, blocks)


def _options() -> Options:
    blocks, buffers = _shared()
    tables = BlockBasedOptions()
    tables.set_block_cache(blocks)
    tables.set_bloom_filter(10, False)
    tables.set_cache_index_and_filter_blocks(True)  # else they would be beside MEMORY, and grow with the state
    tables.set_index_type(BlockBasedIndexType.two_level_index_search())  # whole, they push each other out
    tables.set_partition_filters(True)
    tables.set_pin_top_level_index_and_filter(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_manager(buffers)
    options.set_write_buffer_size(WRITE_BUFFER)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(OPEN_FILES)
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(1 << 20)
    return options
