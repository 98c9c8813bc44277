"""`weir topics`: the one list of topics, beside what the broker has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from infra.config import Config
    from schemas.topic import Topic


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(topics)


def topics(
    create: Annotated[bool, typer.Option("--create", help="Make the topics that are missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """Show every topic: what is in it, how long it is kept, and whether the broker has it."""
    import msgspec
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from infra import config as configuration
    from infra.errors import KafkaUnavailableError
    from infra.kafka import ensure_topics
    from schemas.topics import TOPICS

    config = configuration.load(os.environ)
    if create:
        for name in ensure_topics(config):
            typer.echo(f"made {name}", err=True)
    try:
        on_broker: dict[str, int] | None = _partitions_on_broker(config)
    except KafkaUnavailableError as e:
        typer.echo(f"weir: {e}; whether the topics exist is not known", err=True)
        on_broker = None
    rows = [_row(config, topic, on_broker) for topic in TOPICS]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    view = Table(box=None)
    for header in ("topic", "exists", "partitions"):
        view.add_column(header, no_wrap=True)
    view.add_column("kept", max_width=16)
    view.add_column("what is in it")
    for row in rows:
        exists = {True: "[green]yes[/]", False: "[yellow]no[/]", None: "?"}[row["exists"]]
        what = row["description"] + (" (internal)" if row["internal"] else "")
        view.add_row(
            row["topic"], exists, str(row["partitions"]), escape(row["kept"]), escape(what),
            style="dim" if row["internal"] else "",
        )  # fmt: skip
    Console().print(view)


def _partitions_on_broker(config: Config) -> dict[str, int]:
    """The partitions of every topic there is. Raises KafkaUnavailableError."""
    from confluent_kafka import KafkaException

    from infra.kafka import admin, translate

    try:
        found = admin(config).list_topics(timeout=5).topics
    except KafkaException as e:
        raise translate(e) from e
    return {name: len(topic.partitions) for name, topic in found.items()}


def _row(config: Config, topic: Topic, on_broker: dict[str, int] | None) -> dict[str, Any]:
    """One topic; its partitions are the broker's where it has the topic, else those it would be made with."""
    name = config.topic(topic.name)
    return {
        "topic": name,
        "exists": None if on_broker is None else name in on_broker,
        "partitions": (on_broker or {}).get(name) or topic.partitions or config.partitions,
        "kept": kept(topic),
        "owner": topic.owner,
        "internal": topic.internal,
        "description": topic.description,
    }


def kept(topic: Topic) -> str:
    """How long records are kept, in words.

    >>> from schemas.topics import COMMUNICATIONS, DEAD_LETTER_REPLAYS, LINK_COUNTS, RELATIONS
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
