"""`weir topics`: the one list of topics, beside what the broker has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weir.cli._groups import LOOK
from weir.cli._shared import Listing, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weir.infra.config import Config
    from weir.infra.kafka.topic_settings import Difference
    from weir.schemas.topic import Topic


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=LOOK)(topics)


def topics(
    create: Annotated[bool, typer.Option("--create", help="Make the topics that are missing.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Configure existing topics as declared.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """Show every topic: its content, its retention, whether the broker has it, and settings that differ there.

    --update does not change partitions: a job's state depends on their number.
    """
    from rich.text import Text

    from weir.infra import config as configuration
    from weir.infra.errors import KafkaUnavailableError
    from weir.infra.kafka import topic_settings
    from weir.infra.kafka.client import ensure_topics
    from weir.schemas.topics import TOPICS

    config = configuration.load(os.environ)
    if create:
        for name in ensure_topics(config):
            typer.echo(f"made {name}", err=True)
    if update:
        for was in topic_settings.update(config, TOPICS):
            typer.echo(f"set {config.topic(was.topic)}: {was.setting}={was.declared}, was {was.broker}", err=True)
    try:
        on_broker: dict[str, int] | None = _partitions_on_broker(config)
        compared = topic_settings.compared(config, TOPICS, 5)
    except KafkaUnavailableError as e:
        say(f"{e}; whether the topics exist is not known")
        on_broker, compared = None, {}
    different = [one for found in compared.values() for one in found]
    rows = [_row(config, topic, on_broker, compared.get(topic.name)) for topic in TOPICS]
    if as_json:
        print_json(rows)
        return
    headers = ["topic", "exists", "partitions", "kept", "what is in it", *(["on the broker"] if different else [])]
    listing = Listing(*headers, whole=headers[:3], fold=headers[5:], widths={"kept": 16})
    for row in rows:
        exists = {True: Text("yes", "green"), False: Text("no", "yellow"), None: Text("?")}[row["exists"]]
        what = row["description"] + (" (internal)" if row["internal"] else "")
        differs = [f"{setting}={both['broker']}" for setting, both in (row["differs"] or {}).items()]
        cells = (row["topic"], exists, row["partitions"], row["kept"], what, Text("\n".join(differs), "yellow"))
        listing.add(*cells[: len(headers)], style="dim" if row["internal"] else "")
    listing.show()
    if different:
        say(topic_settings.summary(different))


def _partitions_on_broker(config: Config) -> dict[str, int]:
    """The partitions of every topic there is. Raises KafkaUnavailableError."""
    from weir.infra.kafka.client import topics_there

    found = topics_there(config)
    return {name: len(topic.partitions) for name, topic in found.items()}


def _row(
    config: Config, topic: Topic, on_broker: dict[str, int] | None, different: Sequence[Difference] | None
) -> dict[str, Any]:
    """One topic; its partitions are the broker's where it has the topic, else those it would be made with.

    `differs` are the settings that the broker has otherwise than declared, None where that is not known.
    """
    name = config.topic(topic.name)
    return {
        "topic": name,
        "exists": None if on_broker is None else name in on_broker,
        "partitions": (on_broker or {}).get(name) or topic.partitions or config.kafka.partitions,
        "kept": kept(topic),
        "owner": topic.owner,
        "internal": topic.internal,
        "description": topic.description,
        "differs": None
        if different is None
        else {one.setting: {"broker": one.broker, "declared": one.declared} for one in different},
    }


def kept(topic: Topic) -> str:
    """Returns how long records are kept, in words.

    >>> from weir.schemas.topics import COMMUNICATIONS, DEAD_LETTER_REPLAYS, LINK_COUNTS, RELATIONS
    >>> kept(RELATIONS), kept(COMMUNICATIONS), kept(LINK_COUNTS), kept(DEAD_LETTER_REPLAYS)
    ('for ever', '4 GiB a partition', 'latest per key, 7 days', 'latest per key')
    """
    limits = []
    policy = topic.config.get("cleanup.policy", "delete").split(",")
    if "compact" in policy:
        limits.append("latest per key")
    if "delete" not in policy:  # Kafka then deletes nothing for its age or size
        return ", ".join(limits)
    if (size := int(topic.config.get("retention.bytes", -1))) >= 0:
        limits.append(f"{size / 2**30:g} GiB a partition")
    if (age := int(topic.config.get("retention.ms", 7 * 86_400_000))) >= 0:
        limits.append(f"{age / 86_400_000:g} days")
    return ", ".join(limits) or "for ever"
