"""`weir trim`: delete the beginning of a topic, but nothing that is still needed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.trim import Cut, Hold, Trimmer


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(trim)


def _time(text: str) -> int:
    from infra.topic_lines import parse_timestamp

    try:
        return parse_timestamp(text)
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e


def trim(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name, as `weir topics` shows it.")],
    keep: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Keep the last N offsets of each partition.")
    ] = None,
    before: Annotated[
        int | None,
        typer.Option(
            parser=_time, metavar="TIME", help="Delete up to the first record of this time, RFC 3339 or epoch ms."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is still needed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a topic's records from the beginning on: all of them, or as far as --keep or --before says.

    Where some of it is still needed (a job has not committed it, or needs it to start again; it is not in Postgres yet)
    nothing is deleted, and it says who needs what. --force deletes it all the same.
    """
    from infra.cli.trim_holds import holds
    from infra.config import load
    from infra.kafka import ensure_topics
    from infra.topic_reader import PATIENCE_S
    from infra.trim import Trimmer, check_policy, held
    from schemas.errors import WeirError
    from schemas.topics import TOPICS, by_name

    if keep is not None and before is not None:
        raise WeirError("say how far: --keep or --before, not both")
    config = load(os.environ)
    chosen = by_name(topic)
    check_policy(chosen)
    ensure_topics(config, TOPICS, timeout=PATIENCE_S)
    with Trimmer(config, chosen) as trimmer:
        cuts = _cuts(trimmer, keep, before)
        total = sum(cut.to - cut.first for cut in cuts)
        if total:
            needed = held(cuts, holds(config, chosen, [cut.partition for cut in cuts]))
            _show(cuts, needed)
            if needed and not force:
                raise WeirError("nothing was deleted: some of it is still needed; --force deletes it all the same")
            if not _agreed(f"Delete {total:,} offsets of {topic}, for ever?", yes):
                raise typer.Exit(1)
        print(f"deleted {trimmer.delete(cuts):,} offsets of {topic}")


def _cuts(trimmer: Trimmer, keep: int | None, before: int | None) -> list[Cut]:
    from infra import trim

    edges = trimmer.edges()
    if before is None:
        return trim.keeping(edges, keep or 0)
    return trim.before(edges, trimmer.starts(list(edges), before))


def _show(cuts: Sequence[Cut], needed: Iterable[Hold]) -> None:
    """What goes and what stays, and who would miss it, on standard error."""
    for cut in cuts:
        goes = f"{cut.first:,} to {cut.to - 1:,} go" if cut.to > cut.first else "none goes"
        print(f"partition {cut.partition}: offsets {goes}, {cut.end - cut.to:,} stay", file=sys.stderr)
    for hold in needed:
        print(f"partition {hold.partition} is needed from offset {hold.offset:,} on: {hold.why}", file=sys.stderr)


def _agreed(question: str, yes: bool) -> bool:
    from schemas.errors import WeirError

    if yes:
        return True
    if not sys.stdin.isatty():
        raise WeirError("nothing was deleted: there is no terminal to ask at, so say --yes")
    return typer.confirm(question, err=True)
