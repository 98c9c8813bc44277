"""A dead letter's whole way: refused by the job, put right, replayed, counted once."""

from __future__ import annotations

import pytest

from support.command import json_lines, started, weir
from weir.schemas.times import from_rfc3339

CALL = b'{"source":"shop-1","destination":"billing-1"}'
RELATIONS = b'[{"parent":"shop","child":"shop-1"},{"parent":"billing","child":"billing-1"}]'


def letters(environ: dict[str, str]) -> list[dict[str, object]]:
    """Returns every dead letter, as `weir dead-letters list` prints it."""
    return json_lines(weir(environ, "dead-letters", "list", "--json").stdout)


def test_a_call_of_an_unknown_child_is_counted_once_its_relation_is_known(environ: dict[str, str]) -> None:
    with started(environ, "worker", "links") as worker:
        weir(environ, "produce", "communications", stdin=CALL)
        worker.wait_for(lambda: len(letters(environ)) == 1)
        [letter] = letters(environ)
        assert (letter["reason"], letter["source"], letter["value"]) == (
            "unknown-child", "communications", {"source": "shop-1", "destination": "billing-1"},
        )  # fmt: skip

        weir(environ, "produce", "relations", stdin=RELATIONS)
        replayed = weir(environ, "dead-letters", "replay", "--all", "--yes")
        assert replayed.stdout == b"replayed 1, left out 0\n", replayed

        counted = weir(environ, "tail", "link-counts", "--from-beginning", "--count", "1", "--json")
        [record] = json_lines(counted.stdout)
        assert (record["value"]["source"], record["value"]["count"]) == ("shop", 1)
        window = record["value"]["window"]
        at = from_rfc3339(str(letter["timestamp"]))
        assert from_rfc3339(window["start"]) <= at < from_rfc3339(window["end"])

        again = weir(environ, "dead-letters", "replay", "--all", "--yes")
        assert again.stdout == b"replayed 0, left out 1\n"


@pytest.mark.long
def test_a_replay_that_is_refused_again_names_the_letter_it_was(environ: dict[str, str]) -> None:
    with started(environ, "worker", "links") as worker:
        weir(environ, "produce", "communications", stdin=CALL)
        worker.wait_for(lambda: len(letters(environ)) == 1)
        assert weir(environ, "dead-letters", "replay", "0/0", "--yes").returncode == 0
        worker.wait_for(lambda: len(letters(environ)) == 2)
        first, second = letters(environ)
        assert (first["replayed_from"], second["replayed_from"]) == (None, "0/0")
        assert (second["reason"], second["timestamp"]) == ("unknown-child", first["timestamp"])
