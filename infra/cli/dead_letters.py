"""`weir dead-letters`: what was refused, one of them in full, and sending them again."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter, deque
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.config import Config
    from infra.dead_letter_replay import Replayer
    from infra.dead_letter_selection import Selection
    from infra.dead_letters import Letter

group = typer.Typer(name="dead-letters", help="Show refused messages, and send them again.", no_args_is_help=True)

Position = Annotated[str, typer.Argument(metavar="POSITION", help="partition/offset, as the list shows it.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")]


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.add_typer(group)


@group.command("list")
def list_(
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most the last N.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with the message.")] = False,
) -> None:
    """Show refused messages, oldest first."""
    import orjson

    from infra.dead_letter_replay import letters, replays
    from infra.dead_letter_view import as_lines, as_table

    _check(reason)
    config = _ready()
    replayed = replays(config)
    shown: deque[Letter] = deque(maxlen=limit)
    reasons: Counter[str] = Counter()
    for letter in letters(config):
        if reason in (None, letter.reason):
            reasons[letter.reason] += 1
            shown.append(letter)
    if json:
        for letter in shown:
            sys.stdout.buffer.write(orjson.dumps(letter.to_dict(replayed.get(letter.position))) + b"\n")
    elif sys.stdout.isatty():
        for line in as_table(shown, replayed, shutil.get_terminal_size().columns):
            print(line)
    else:
        as_lines(shown, replayed)
    sys.stdout.flush()
    total = sum(reasons.values())
    text = ", ".join(f"{count:,} {name}" for name, count in reasons.most_common())
    last = f" (the last {limit:,} are shown)" if total > limit else ""
    print(f"{total:,} dead letters{': ' if text else ''}{text}{last}", file=sys.stderr)


@group.command()
def show(
    position: Position,
    raw: Annotated[bool, typer.Option("--raw", help="Only the message, byte for byte.")] = False,
) -> None:
    """Show one refused message in full."""
    from infra.dead_letter_replay import letter_at, replays
    from infra.dead_letter_view import in_full

    config = _ready()
    letter = letter_at(config, position)
    if raw:
        sys.stdout.buffer.write(letter.record.value or b"")
        sys.stdout.flush()
    else:
        in_full(letter, replays(config).get(position))


@group.command()
def replay(
    positions: Annotated[
        list[str] | None, typer.Argument(metavar="[POSITION]…", help="partition/offset of each.")
    ] = None,
    reason: ReasonOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All that a job would take now.")] = False,
    to: Annotated[str | None, typer.Option("--to", metavar="TOPIC", help="Not to where they came from.")] = None,
    now: Annotated[bool, typer.Option("--now", help="As of now, not of their own time.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Send refused messages again, as they came, to the topic they came from.

    A replayed message is a new one that names the dead letter it was. What was replayed is remembered, and not
    replayed a second time without --again. With --reason or --all, what would only be refused again is left out.
    """
    import time

    from infra.dead_letter_replay import Replayer
    from infra.dead_letter_selection import Selection
    from infra.dead_letters import Planner
    from schemas.errors import WeirError
    from schemas.topics import by_name

    if sum((bool(positions), reason is not None, all_)) != 1:
        raise WeirError("say which: positions, or --reason REASON, or --all")
    _check(reason)
    config = _ready()
    replayer = Replayer(config)
    latest = int(time.time() * 1000) + config.max_skew
    planner = Planner(latest=latest, to=None if to is None else by_name(to), now=now)
    selection = Selection(config, planner, {} if again else replayer.replayed, positions or [], reason, _say)
    chosen = selection.choose()
    if chosen and not _agreed(selection, yes):
        raise typer.Exit(1)
    sent = _send(replayer, selection, chosen)
    print(f"replayed {sent}, left out {selection.left_out}")
    if positions and selection.left_out:
        raise typer.Exit(1)


def _check(reason: str | None) -> None:
    """Raises WeirError for a reason that no dead letter can have: a typing error is no empty list."""
    from infra.dead_letters import UNKNOWN
    from schemas.dead_letters import Reason
    from schemas.errors import WeirError

    known = [*Reason, UNKNOWN]
    if reason is not None and reason not in known:
        raise WeirError(f"there is no reason {reason!r}; the known ones are {', '.join(known)}")


def _say(line: str) -> None:
    print(f"weir: {line}", file=sys.stderr)


def _agreed(selection: Selection, yes: bool) -> bool:
    from schemas.errors import WeirError

    for (reason, topic), count in selection.counts.most_common():
        print(f"{count:,} {reason} to {topic}", file=sys.stderr)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise WeirError("nothing was sent: there is no terminal to ask at, so say --yes")
    return typer.confirm("Send them again?", err=True)


def _send(replayer: Replayer, selection: Selection, chosen: set[str]) -> int:
    sent = 0
    for count in replayer.send(selection.sendings(chosen) if chosen else ()):
        sent += count
        print(f"sent {sent:,} of {len(chosen):,}", file=sys.stderr)
    return sent


def _ready() -> Config:
    """The configuration, with the topics there."""
    from infra.config import load
    from infra.kafka import ensure_topics
    from infra.topic_reader import PATIENCE_S
    from schemas.topics import TOPICS

    config = load(os.environ)
    ensure_topics(config, TOPICS, timeout=PATIENCE_S)
    return config
