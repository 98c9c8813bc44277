"""`weir ledger` against a real Kafka."""

from __future__ import annotations

import json

from support.command import weir
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.schemas.topics import TOPICS

CALL = b'{"source":"a","destination":"b"}\n'


def test_for_people_only_the_source_has_something_to_process(environ: dict[str, str], config: Config) -> None:
    kafka.ensure_topics(config, TOPICS)
    assert weir(environ, "produce", "communications", stdin=3 * CALL).returncode == 0
    shown = [line.split() for line in weir(environ, "ledger").stdout.decode().splitlines()]
    assert ["not", "processed", "yet", "3"] in shown
    assert {line[0] for line in shown[1:]} == {"accepted", "counted", "late", "dead", "merged", "not"}
    told = json.loads(weir(environ, "ledger", "--json").stdout)
    assert told["behind"] == {"communications": 3, "links-partials": 0}
