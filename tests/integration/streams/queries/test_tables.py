"""Every key of a table is answered by any worker: what is committed, from whoever owns it."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from support.command import started
from support.http.table_client import address_of, ask, counts, get, running
from support.links.communications import PARENTS, Source
from support.wait import until
from support.workers import Cell, Results, Workers, workers
from weir.infra.config import Config
from weir.infra.kafka.client import admin, ensure_topics, producer
from weir.infra.kafka.worker_directory import Member, describe
from weir.schemas.links import LinkCount
from weir.schemas.times import to_rfc3339
from weir.streams.engine.aggregates.partials import owner

#: How many answers are looked at.
ASKED = 400
KEYS = [(f"p{a}", f"p{b}") for a in range(PARENTS) for b in range(PARENTS)]


@pytest.fixture
def source(config: Config) -> Source:
    ensure_topics(config)
    return Source(config, seed=4)


def members(config: Config) -> list[Member]:
    return describe(admin(config), config, config.topic("links"))


def serving(config: Config, fleet: Workers, wanted: int) -> dict[str, subprocess.Popen[bytes]]:
    """So many workers, each with tasks, by address."""
    while len(fleet.running) < wanted:
        fleet.start()
    until(lambda: all(running(config, worker) for worker in fleet.running))
    until(lambda: sum(bool(member.partitions) for member in members(config)) == wanted)
    return {address_of(config, worker) or "": worker for worker in fleet.running}


def test_every_key_asked_of_any_worker_is_what_is_committed(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path) as fleet:
        addresses = list(serving(config, fleet, 2))
        source.send(5000)
        until(lambda: results.merged >= source.sent)
        latest = results.latest()
        found: list[dict[Cell, int]] = [{}, {}]
        owners = set()
        for key in KEYS:
            answers = [ask(address, *key) for address in addresses]
            assert answers[0].body["cells"] == answers[1].body["cells"]
            assert answers[0].body["partition"] == owner(key, config.kafka.partitions)
            owners.add(answers[0].body["partition"])
            for cells, answer in zip(found, answers, strict=True):
                cells.update(counts(answer))
            for cell in answers[0].body["cells"]:
                assert cell["final"] == latest[cell["window"]["start"], *key].final
        assert found[0] == found[1] == results.counts() == source.expected
        assert owners == set(range(config.kafka.partitions))
        until(lambda: all(ask(a, *KEYS[0]).body["lag"] == {"records": 0, "ms": 0} for a in addresses))

        window = next(iter(source.expected))[0]
        [cell] = ask(addresses[0], *KEYS[0], query=f"?window={window}").body["cells"]
        assert cell["value"] == source.expected[window, *KEYS[0]]
        none = ask(addresses[0], *KEYS[0], query="?window=2000-01-01T00:00:00Z")
        assert (none.status, none.body["lag"]["records"]) == (404, 0)
        with started(environ, "run", "api") as service:
            service.wait_for_error_line(b"api.running")
            api = f"http://127.0.0.1:{config.api.port}"
            assert ask(api, *KEYS[0]).body["cells"] == ask(addresses[0], *KEYS[0]).body["cells"]
            assert ask(api, "a", table="relations").status == 404
            assert ask(api, *KEYS[0], query="?window=noon").body["error"]["field"] == "window"


def test_what_cannot_be_asked_is_said(config: Config, environ: dict[str, str], tmp_path: Path) -> None:
    ensure_topics(config)
    odd = ["", ".", "..", "a/b", "ü", "%2F", "a b", "a+b", "?", "#", "a\0b"]
    with workers(environ, tmp_path) as fleet:
        addresses = serving(config, fleet, 2)
        for address in addresses:
            for part in odd:
                answer = ask(address, part, "x")
                assert (answer.status, answer.body["key"]) == (404, [part, "x"])
                assert answer.body["lag"].keys() == {"records", "ms"}
            assert ask(address, "p1", "p2", table="link-windows").status == 404
            assert ask(address, "p1", query="?window=12").body["error"]["field"] == "window"
            assert get(address, "/tables/link-counts").body["key"] == ["source", "destination"]
            [own] = get(address, "/tables").body["tables"]
            assert (own["table"], own["state"], own["workers"]) == ("link-counts", "running", 2)
            health = get(address, "/health").body
            assert (health["status"], health["job"], health["state"]) == ("ok", "links", "running")
            assert health["partitions"]


def test_keys_with_any_character_are_found(config: Config, environ: dict[str, str], tmp_path: Path) -> None:
    ensure_topics(config)
    parents = ["..", "a/b", "ü %2F", "?x=1#y"]
    start = 1_700_000_040_000
    client = producer(config)
    for n, parent in enumerate(parents):
        value = f'{{"parent": "{parent}", "child": "c{n}"}}'
        client.produce(config.topic("relations"), value, key=f"c{n}", timestamp=start)
        client.produce(
            config.topic("communications"), f'{{"source": "c{n}", "destination": "c{n}"}}', timestamp=start, partition=0
        )
    client.flush()
    with workers(environ, tmp_path) as fleet:
        addresses = serving(config, fleet, 2)
        until(lambda: Results(config).merged == len(parents))
        for address in addresses:
            for parent in parents:
                expected = {(to_rfc3339(start // 60_000 * 60_000), parent, parent): 1}
                assert counts(ask(address, parent, parent)) == expected


def test_while_it_counts_only_what_is_committed_is_answered(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results, done = Results(config), threading.Event()
    answers: list[dict[Cell, int]] = []
    ahead: list[tuple[Cell, int, int]] = []

    def watch(address: str) -> None:
        number = 0
        while not done.is_set():
            key = KEYS[number % len(KEYS)]
            found = ask(address, *key)
            if found.status == 503:
                continue
            cells = counts(found)
            answers.append(cells)
            if number % 40 == 20:
                committed = results_of[address].counts()
                ahead.extend((c, n, committed[c]) for c, n in cells.items() if n > committed[c])
            number += 1

    with workers(environ, tmp_path) as fleet:
        results_of = {address: Results(config) for address in serving(config, fleet, 2)}
        threads = [threading.Thread(target=watch, args=(address,)) for address in results_of]
        for thread in threads:
            thread.start()
        until(lambda: len(answers) >= ASKED, lambda: source.send(200))
        until(lambda: results.merged >= source.sent)
        done.set()
        for thread in threads:
            thread.join()
    assert ahead == []
    written: dict[Cell, set[int]] = {}
    for record in results.records("link-counts"):
        count = msgspec.json.decode(record.value() or b"", type=LinkCount)
        written.setdefault((count.window.start, count.source, count.destination), set()).add(count.count)
    asked = {(cell, value) for answer in answers for cell, value in answer.items()}
    assert {(cell, value) for cell, value in asked if value not in written[cell]} == set()
    assert len(asked) > len({cell for cell, _ in asked})  # it was asked while they changed


def test_of_an_owner_that_was_killed_the_next_one_answers(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path) as fleet:
        addresses = serving(config, fleet, 2)
        source.send(3000)
        until(lambda: results.merged >= source.sent)
        victim, survivor = addresses
        partitions = next(m.partitions for m in members(config) if m.address == victim.removeprefix("http://"))
        theirs = [k for k in KEYS if (config.topic("links-partials"), owner(k, config.kafka.partitions)) in partitions]
        assert counts(ask(survivor, *theirs[0]))
        fleet.kill(addresses[victim])
        answer = ask(survivor, *theirs[0])
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.body["error"]["reason"]
        statuses = set()

        def answered() -> bool:
            answers = [ask(survivor, *key) for key in KEYS]
            statuses.update(answer.status for answer in answers)
            return all(answer.status == 200 for answer in answers)

        until(answered)
        assert statuses == {200, 503}
        found: dict[Cell, int] = {}
        for key in KEYS:
            found |= counts(ask(survivor, *key))
        assert found == source.expected


@pytest.mark.long
def test_an_owner_that_was_paused_and_overtaken_does_not_answer_with_what_it_had(
    config: Config, environ: dict[str, str], source: Source, tmp_path: Path
) -> None:
    results = Results(config)
    with workers(environ, tmp_path) as fleet:
        addresses = serving(config, fleet, 2)
        source.send(1000)
        until(lambda: results.merged >= source.sent)
        paused, process = next(iter(addresses.items()))
        theirs = next(m.partitions for m in members(config) if m.address == paused.removeprefix("http://"))
        key = next(k for k in KEYS if (config.topic("links-partials"), owner(k, config.kafka.partitions)) in theirs)
        process.send_signal(signal.SIGSTOP)
        before = {cell: n for cell, n in source.expected.items() if cell[1:] == key}
        while any(source.expected[cell] == n for cell, n in before.items()):
            source.send(200)
        until(lambda: results.merged >= source.sent)
        process.send_signal(signal.SIGCONT)

        answers = [ask(paused, *key)]
        until(lambda: answers[-1].status == 200, lambda: answers.append(ask(paused, *key)))
        assert {answer.status for answer in answers[:-1]} <= {503}
        assert counts(answers[-1]) == {cell: n for cell, n in source.expected.items() if cell[1:] == key}
