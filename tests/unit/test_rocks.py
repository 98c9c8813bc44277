"""A table in RocksDB is a table in memory that is there again: whatever is put, dropped, committed, lost or damaged."""

from __future__ import annotations

import dataclasses
import itertools
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import test_engine_properties as properties
import test_keyed_properties as keyed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from page_views import pages

from infra.config import Config
from schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINKS_PARTIALS
from streams import links
from streams.api import Key, SessionWindows, Windowed
from streams.engine.errors import EngineError, StoppedError
from streams.engine.keyed import Keyed
from streams.engine.partials import ROOM, owner
from streams.engine.records import Stage
from streams.engine.rocks import RocksTable
from streams.engine.rocks_store import RocksStore
from streams.engine.tables import MemoryTable, Table
from streams.testing import Harness

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


def memory(folder: Path) -> Table:
    return MemoryTable()


def rocks(folder: Path, pending: int = 2) -> RocksTable:
    """A state is a list of numbers, which a merge appends to in place."""
    return RocksTable(RocksStore(folder), list, list, pending=pending)


def rebuilt(table: Table, metadata: str, state: State) -> bool:
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


def content(table: Table) -> State:
    """All that is in the table, each way of asking giving the same."""
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
    open_table: Callable[[Path], Table], steps: list[Any]
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


def killed(folder: Path) -> None:
    """A process fills a table twice, 3 cells with metadata "1" and one more with "2", and ends without closing it."""
    script = f"""if True:
        import os
        from pathlib import Path
        import test_rocks
        table = test_rocks.filled(Path({str(folder)!r}), "1")
        table.cells(0)["3",] = [3]
        table.flush("2")
        table.committed()
        table.cells(0)["lost",] = [1]
        os._exit(9)
    """
    gone = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=False, timeout=60)
    assert gone.returncode == 9


def test_a_process_that_is_killed_loses_no_commit_and_holds_nothing(folder: Path) -> None:
    killed(folder)
    table = rocks(folder)
    assert table.restore("2")
    assert content(table) == {0: {(str(n),): [n] for n in range(4)}}
    table.close()


@pytest.mark.parametrize(("metadata", "kept"), [("1", True), ("2", False)])
def test_after_a_power_cut_a_whole_commit_is_there_or_nothing(folder: Path, metadata: str, kept: bool) -> None:
    killed(folder)
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


def test_rocksdb_is_loaded_only_where_it_is_wanted() -> None:
    script = "import sys, streams.jobs, streams.engine.app; sys.exit('rocksdict' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_sessions_are_kept_in_memory() -> None:
    with pytest.raises(ValueError, match="sessions are kept in memory"):
        Windowed(
            name="sessions",
            source=COMMUNICATIONS,
            windows=SessionWindows(1000, 0, 1000),
            partials=LINKS_PARTIALS,
            output=LINK_COUNTS,
            key=["source"],
            store="rocksdb",
        )


class Kept:
    """A job, kept in RocksDB under `folder`."""

    def __init__(self, job: Windowed | Keyed[Any, Any], folder: Path) -> None:
        self._job, self._folder = dataclasses.replace(job, store="rocksdb"), folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def open(self, topic: str, partition: int, counts: Any, now_ms: Any, state: Path | None = None) -> Stage:
        return self._job.open(topic, partition, counts, now_ms, self._folder / f"{topic}-{partition}")


def played(steps: list[Any], retention: str) -> tuple[Harness, list[tuple[int, str, str]]]:
    with tempfile.TemporaryDirectory() as folder:
        h, sent = properties.play(steps, retention, lambda config: Kept(links.job(config), Path(folder)))
        h.crash()
        return h, sent


@settings(max_examples=60, deadline=None)
@given(st.lists(properties.step, max_size=60))
def test_counts_equal_a_plain_counter(steps: list[Any]) -> None:
    h, sent = played(steps, retention="600000")
    assert properties.cells(h) == properties.truth(sent)


@settings(max_examples=60, deadline=None)
@given(st.lists(properties.step, max_size=60))
def test_the_ledger_holds_and_nothing_is_counted_twice_when_events_are_late(steps: list[Any]) -> None:
    h, sent = played(steps, retention="20000")
    assert h.routed.accepted == len(sent)
    assert h.routed.counted == h.counted == sum(properties.cells(h).values())
    assert h.routed.late == len(h.records("late-events"))


@settings(max_examples=60, deadline=None)
@given(st.lists(properties.step, max_size=60))
def test_a_window_is_closed_once_per_partition_also_after_crashes(steps: list[Any]) -> None:
    """What memory forgets, RocksDB does not."""
    h, _ = played(steps, retention="600000")
    closed = [(c["window"]["start"], c["partition"]) for c in h.values("link-windows")]
    assert len(closed) == len(set(closed))


def test_a_job_goes_on_from_rocksdb_without_its_changelog(tmp_path: Path) -> None:
    """The changelog is emptied between: nothing of it is needed."""
    h = Harness(Kept(links.job(Config(partitions=1)), tmp_path), 1, now_ms=properties.BASE)
    h.send("relations", [{"parent": "p", "child": "c"}], properties.BASE)
    for n in range(2):
        h.send("communications", {"source": "c", "destination": "c"}, properties.BASE + n)
        h.run()
        h.topics["link-counts", 0] = [r for r in h.topics["link-counts", 0] if n]
        h.crash()
    assert [c["count"] for c in h.latest("link-counts").values()] == [2]


def test_a_commit_amid_the_partials_of_one_flush_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    """The worker dies after Kafka's commit and before RocksDB is written."""
    h = Harness(Kept(pages(), tmp_path), 1, now_ms=properties.BASE)

    def send(number: int) -> None:
        views = [{"page": str(page), "user": "a", "worth": 1.0} for page in range(number)]
        h.send("views", views, properties.BASE)

    send(1)
    h.run()
    send(ROOM + 1)
    h.process("views", 0)
    h.flush("views", 0)
    h.process("page-partials", 0, 1)
    task = h._task("page-partials", 0)
    batch = task.stage.take(len(h.records("pages")))
    assert batch is not None
    h._commit(batch, ("page-partials", 0), task.position)
    h.crash("page-partials", 0)
    h.run()
    send(ROOM + 1)
    h.run()
    assert sum(value["count"] for value in h.latest("pages").values()) == h.counted == 1 + 2 * (ROOM + 1)
    h.crash()


@settings(max_examples=80, deadline=None)
@given(st.lists(keyed.step, max_size=50))
def test_keyed_states_and_outputs_are_those_of_a_loop_over_dicts(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        h, sent = keyed.play(Kept(keyed.JOB, Path(folder)), steps)
        models = [keyed.Model() for _ in range(keyed.PARTITIONS)]
        for where, at, one in sent:
            models[where].process(at, one)
        outputs: list[list[Any]] = [[] for _ in models]
        for record in h.records("out"):
            place = owner(((record.key() or b"").decode(),), keyed.PARTITIONS)
            outputs[place].append(msgspec.json.decode(record.value() or b""))
        assert outputs == [model.out for model in models]
        assert keyed.states(h) == {one: state for model in models for one, state in model.state.items()}
        h.crash()


def test_a_keyed_job_goes_on_from_rocksdb_without_its_changelog(tmp_path: Path) -> None:
    """State and timers: the changelog is emptied between."""
    job = dataclasses.replace(keyed.JOB, repartition=keyed.ROUTED)
    h = Harness(Kept(job, tmp_path), 1, now_ms=keyed.BASE)
    for n, delay in enumerate([300, None]):
        h.send("events", keyed.Event(n, f"k{n}", 5, False, False, delay), keyed.BASE + 200 * n)
        h.run()
        h.topics["table", 0] = []
        h.crash()
    h.send("events", keyed.Event(2, "k1", 6, False, False, None), keyed.BASE + 301)
    h.run()
    timer = ["timer", "k0", 300, 1_000_005]
    assert h.values("out") == [["event", 0, 5], ["event", 1, 5], timer, ["event", 2, 11]]
    h.crash()


def test_the_benchmark_prints_a_line_for_each_store() -> None:
    command = [sys.executable, "-m", "benchmarks.stores", "--cells", "22000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [line[0] for line in lines] == ["memory", "rocksdb"]
    assert all(float(figure) > 0 for line in lines for figure in line[1:4])
