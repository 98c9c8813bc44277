"""A table in RocksDB is a table in memory that is there again: whatever is put, dropped, committed, lost or damaged."""

from __future__ import annotations

import itertools
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weir.infra.errors import StoppedError
from weir.streams.api import Key
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.state.rocks import RocksTable
from weir.streams.engine.state.rocks_store import RocksStore
from weir.streams.engine.state.tables import MemoryTable, StateTable

KEYS: list[Key] = [("a",), ("a", ""), ("", "a"), ("b\0", "é"), ("c" * 300,)]
WINDOWS = [-60_000, 0, 60_000, 60_001]
State = dict[int, dict[Key, list[int]]]

window, key = st.sampled_from(WINDOWS), st.sampled_from(KEYS)
step = st.one_of(
    st.tuples(st.just("put"), window, key),
    st.tuples(st.just("merge"), window, st.lists(key, max_size=6)),
    st.tuples(st.just("pop"), window, key),
    st.tuples(st.just("drop"), window),
    st.tuples(st.just("flush")),
    st.tuples(st.just("committed")),
    st.tuples(st.just("crash"), st.sampled_from(["told", "untold"])),
)


def memory(folder: Path) -> StateTable:
    return MemoryTable()


def rocks(folder: Path, pending: int = 2) -> RocksTable:
    """A state is a list of numbers, which a merge appends to in place."""
    return RocksTable(RocksStore(folder), list, list, pending=pending)


def rebuilt(table: StateTable, metadata: str, state: State) -> bool:
    """Restores as a stage does: from `state`, the changelog, where the table has not kept it."""
    kept = table.restore(metadata)
    if not kept:
        for start, cells in state.items():
            for one, numbers in cells.items():
                table.cells(start)[one] = list(numbers)
        table.restored()
    return kept


def copy(state: State) -> State:
    return {start: {one: list(numbers) for one, numbers in cells.items()} for start, cells in state.items()}


def content(table: StateTable) -> State:
    """Returns the table's content, and checks that each way of reading gives the same."""
    found: State = {}
    for start in table.windows():
        cells = table.cells(start)
        own = dict(cells.items())
        assert len(cells) == len(own) == len(list(cells)) == len(list(cells.items()))
        assert set(cells) == own.keys()
        for one in KEYS:
            assert cells.get(one) == own.get(one)
        if own:
            found[start] = copy({start: own})[start]
    return found


@pytest.mark.parametrize("open_table", [memory, rocks])
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(step, max_size=40))
@example(steps=[("put", 0, ("a",)), ("flush",), ("merge", 0, [("a",)]), ("committed",), ("crash", "told")])
@example(steps=[("put", 0, ("a",)), ("flush",), ("pop", 0, ("a",)), ("committed",), ("flush",), ("merge", 0, [("a",)])])
@example(steps=[("put", 0, ("a",)), ("flush",), ("drop", 0), ("put", 0, ("a", "")), ("committed",), ("flush",)])
def test_a_table_is_what_was_put_into_it_whatever_is_lost(
    open_table: Callable[[Path], StateTable], steps: list[Any]
) -> None:
    numbers, commits = itertools.count(), itertools.count(1)
    now: State = {}
    flying: tuple[str, State] | None = None
    committed: tuple[str, State] = ("0", {})
    with tempfile.TemporaryDirectory() as folder:
        table = open_table(Path(folder) / "state")
        table.restore(None)
        for name, *rest in steps:
            if name == "put":
                start, one = rest
                number = next(numbers)
                now.setdefault(start, {})[one] = [number]
                table.cells(start)[one] = [number]
            elif name == "merge":
                start, some = rest
                cells = table.fetched(start, some)
                for one in some:
                    number = next(numbers)
                    now.setdefault(start, {}).setdefault(one, []).append(number)
                    cells[one] = state = cells.get(one, [])
                    state.append(number)
            elif name == "pop":
                start, one = rest
                assert table.cells(start).pop(one, None) == now.get(start, {}).pop(one, None)
                with pytest.raises(KeyError):
                    del table.cells(start)[one]
                now = {start: cells for start, cells in now.items() if cells}
            elif name == "drop" and rest[0] in table.windows():
                now.pop(rest[0], None)
                table.drop(rest[0])
            elif name == "flush" and flying is None:
                flying = str(next(commits)), copy(now)
                table.flush(flying[0])
            elif name == "committed" and flying is not None:
                committed, flying = flying, None
                table.committed()
            elif name == "crash":
                told = True
                if flying is not None and rest[0] == "untold":  # it was committed, and nobody heard of it
                    committed, told = flying, False
                flying = None
                table.close()
                table = open_table(Path(folder) / "state")
                kept = rebuilt(table, *committed)
                assert not kept or (told and open_table is rocks)
                now = copy(committed[1])
            assert content(table) == now
        table.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "job" / "partials-0"


def filled(folder: Path, metadata: str, windows: Sequence[int] = (0,), cells: int = 3) -> RocksTable:
    table = rocks(folder, 1 << 20)
    table.restore(None)
    for start in windows:
        for n in range(cells):
            table.cells(start)[str(n),] = [n]
    table.flush(metadata)
    table.committed()
    return table


def test_what_was_committed_is_there_again_and_nothing_else_of_it(folder: Path) -> None:
    table = filled(folder, "1", windows=[0, 60_000])
    table.cells(0)["0",] = [9]
    table.drop(60_000)
    table.flush("2")
    table.close()
    again = rocks(folder)
    assert again.restore("1")
    assert content(again) == {w: {(str(n),): [n] for n in range(3)} for w in (0, 60_000)}
    again.close()


@pytest.mark.parametrize("metadata", ["0", "2", "", None])
def test_other_metadata_than_the_committed_leaves_nothing(folder: Path, metadata: str | None) -> None:
    filled(folder, "1").close()
    table = rocks(folder)
    assert not table.restore(metadata)
    assert content(table) == {}
    table.close()
    again = rocks(folder)
    assert not again.restore("1")
    again.close()


def test_what_is_being_built_again_is_never_taken_for_a_commit(folder: Path) -> None:
    filled(folder, "1").close()
    table = rocks(folder, pending=2)
    assert not table.restore("2")
    for n in range(5):
        table.cells(0)[str(n),] = [n]
    table.close()  # before it was whole
    again = rocks(folder)
    assert not again.restore("2")
    again.close()


def test_a_folder_that_is_held_is_left_alone_and_one_beside_it_is_used(folder: Path) -> None:
    paused = filled(folder, "1")
    owner = rocks(folder)
    assert not rebuilt(owner, "1", {0: {("x",): [1]}})
    assert owner.store.folder != paused.store.folder
    paused.cells(0)["more",] = [1]
    paused.flush("2")
    paused.committed()
    assert content(owner) == {0: {("x",): [1]}}
    owner.close()
    paused.close()
    again = rocks(folder)
    assert again.restore("1"), "what the owner left is found beside"
    assert content(again) == {0: {("x",): [1]}}
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [again.store.folder.name]
    again.close()


def left_behind(folder: Path) -> None:
    """Makes the files of a process that was killed: 3 cells with metadata "1", one more with "2", and never closed.

    A copy of the files of an open table is what SIGKILL leaves: the bytes that the process has handed to the kernel.
    """
    living = folder.with_name("living")
    table = filled(living, "1")
    table.cells(0)["3",] = [3]
    table.flush("2")
    table.committed()
    table.cells(0)["lost",] = [1]
    shutil.copytree(living, folder)
    table.close()


def test_a_process_that_is_killed_loses_no_commit(folder: Path) -> None:
    left_behind(folder)
    table = rocks(folder)
    assert table.restore("2")
    assert content(table) == {0: {(str(n),): [n] for n in range(4)}}
    table.close()


@pytest.mark.parametrize(("metadata", "kept"), [("1", True), ("2", False)])
def test_after_a_power_cut_a_whole_commit_is_there_or_nothing(folder: Path, metadata: str, kept: bool) -> None:
    left_behind(folder)
    (path,) = folder.glob("*.log")
    path.write_bytes(path.read_bytes()[:-3])  # the end had not reached the disk
    table = rocks(folder)
    assert table.restore(metadata) == kept
    assert content(table) == ({0: {(str(n),): [n] for n in range(3)}} if kept else {})
    table.close()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*"])
def test_a_database_that_cannot_be_opened_is_built_again(folder: Path, name: str) -> None:
    filled(folder, "1").close()
    (path,) = folder.glob(name)
    path.write_bytes(b"nonsense" * 100)
    table = rocks(folder)
    state: State = {0: {("x",): [1]}}
    assert not rebuilt(table, "1", state)
    assert content(table) == state
    table.close()
    again = rocks(folder)
    assert again.restore("1")
    again.close()


@pytest.mark.parametrize("way", ["get", "fetched", "items"])
def test_damage_that_is_found_late_ends_the_task_and_is_not_met_again(folder: Path, way: str) -> None:
    filled(folder, "1", cells=5000).close()
    for path in folder.glob("*.sst"):
        whole = bytearray(path.read_bytes())
        half = len(whole) // 2
        whole[half : half + 1000] = b"x" * 1000
        path.write_bytes(whole)
    table = rocks(folder)
    assert table.restore("1"), "the damage is not where the head is"
    cells, keys = table.cells(0), [(str(n),) for n in range(5000)]
    asked = {
        "get": lambda: [cells.get(one) for one in keys],
        "fetched": lambda: cells.fetched(keys),
        "items": lambda: list(cells.items()),
    }
    with pytest.raises(EngineError, match="was damaged, and is removed"):
        asked[way]()
    again = rocks(folder)
    assert not again.restore("1")
    again.close()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_ends_the_task_and_the_commit_before_stays(folder: Path) -> None:
    table = filled(folder, "1")
    for n in range(20_000):
        table.cells(0)["x" * 100, str(n)] = [n]
    table.flush("2")
    with files_of_at_most(1 << 20), pytest.raises(EngineError, match="cannot be written"):
        table.committed()
    table.close()
    again = rocks(folder)
    assert again.restore("1")
    assert content(again) == {0: {(str(n),): [n] for n in range(3)}}
    again.close()


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"state cannot be kept in .*/file/job"):
        rocks(tmp_path / "file" / "job").restore(None)


def test_a_closed_table_is_of_no_use_and_lets_go_of_its_folder(folder: Path) -> None:
    table = filled(folder, "1")
    table.close()
    table.close()
    with pytest.raises(StoppedError):
        table.cells(0).get(("0",))
    with pytest.raises(StoppedError):
        table.restore("1")
    shutil.rmtree(folder.parent)


def test_without_a_folder_it_is_kept_in_one_that_goes_with_it() -> None:
    store = RocksStore(None)
    store.open(None)
    place = store.folder
    assert place.exists()
    store.close()
    del store
    assert not place.parent.exists()
