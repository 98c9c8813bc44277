"""The how-to's example with any Kafka client, as it stands there: what it writes is counted."""

from __future__ import annotations

import re
from pathlib import Path

from support.command import json_lines, started, weir
from weir.infra import config as configuration
from weir.infra.kafka.client import ensure_topics

PAGE = Path(__file__).parents[2] / "docs/how-to/send-events.md"


def test_what_any_client_writes_is_counted(environ: dict[str, str]) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    prefix = environ["WEIR_TOPIC_PREFIX"]
    example = example.replace("127.0.0.1:9092", environ["WEIR_KAFKA"])
    example = example.replace('("relations"', f'("{prefix}relations"')
    example = example.replace('("communications"', f'("{prefix}communications"')
    ensure_topics(configuration.load(environ))
    exec(compile(example, str(PAGE), "exec"), {})
    with started(environ, "worker", "links"):
        counted = weir(environ, "tail", "link-counts", "--from-beginning", "--count", "1", "--json")
    [record] = json_lines(counted.stdout)
    assert (record["value"]["source"], record["value"]["count"]) == ("shop", 1)
