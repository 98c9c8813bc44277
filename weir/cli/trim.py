"""`weir trim`: delete the beginning of a topic, but nothing that is still needed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import MAINTAIN
from weir.cli._shared import TopicArgument, agreed, time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from weir.infra.kafka.trim import Hold, Trimmer, TrimRange


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=MAINTAIN)(trim)


def trim(
    topic: TopicArgument,
    keep: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Keep the last N offsets of each partition.")
    ] = None,
    before: Annotated[
        int | None,
        typer.Option(
            parser=time_ms, metavar="TIME", help="Delete up to the first record of this time, RFC 3339 or epoch ms."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also delete records that are still needed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a topic's records from the beginning on: all of them, or as far as --keep or --before says.

    Deletes nothing if some of the records are still needed (a job has not committed them, or needs them to start again;
    they are not in Postgres yet), and prints who needs them. --force deletes them anyway.
    """
    from weir.infra.config import load
    from weir.infra.kafka.client import ensure_topics
    from weir.infra.kafka.topic_reader import PATIENCE_S
    from weir.infra.kafka.trim import Trimmer, check_policy, held, lowered
    from weir.schemas.errors import WeirError
    from weir.schemas.topics import TOPICS, by_name
    from weir.services.trim_holds import holds

    if keep is not None and before is not None:
        raise WeirError("--keep and --before cannot be used together")
    config = load(os.environ)
    chosen = by_name(topic)
    check_policy(chosen)
    ensure_topics(config, TOPICS, timeout=PATIENCE_S)
    trimmer = Trimmer(config, chosen)
    cuts = _cuts(trimmer, keep, before)
    if any(cut.to > cut.first for cut in cuts):
        found = list(holds(config, chosen, [cut.partition for cut in cuts]))
        needed = held(cuts, found)
        cuts = lowered(cuts, [hold for hold in found if hold not in needed])
        _show(cuts, needed)
        if needed and not force:
            raise WeirError("nothing was deleted: some records are still needed; --force deletes them anyway")
        total = sum(cut.to - cut.first for cut in cuts)
        if total and not agreed(f"Delete {total:,} offsets of {topic}, for ever?", yes, "nothing was deleted"):
            raise typer.Exit(1)
    print(f"deleted {trimmer.delete(cuts):,} offsets of {topic}")


def _cuts(trimmer: Trimmer, keep: int | None, before: int | None) -> list[TrimRange]:
    from weir.infra.kafka import trim

    edges = trimmer.edges()
    if before is None:
        return trim.keeping(edges, keep or 0)
    return trim.before(edges, trimmer.starts(list(edges), before))


def _show(cuts: Sequence[TrimRange], needed: Iterable[Hold]) -> None:
    """Prints to standard error which offsets each cut deletes and keeps, and which holds limit it."""
    for cut in cuts:
        goes = f"{cut.first:,} to {cut.to - 1:,} go" if cut.to > cut.first else "none goes"
        print(f"partition {cut.partition}: offsets {goes}, {cut.end - cut.to:,} stay", file=sys.stderr)
    for hold in needed:
        print(f"partition {hold.partition} is needed from offset {hold.offset:,} on: {hold.why}", file=sys.stderr)
