"""`weir dead-letters`: what was refused, one of them in full, and sending them again."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter, deque
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RECORDS, CommandGroup
from weir.cli._shared import agreed, say

if TYPE_CHECKING:
    from weir.infra.config import Config
    from weir.infra.dead_letters.letters import Letter
    from weir.infra.dead_letters.replay import Replayer
    from weir.infra.dead_letters.selection import DeadLetterSelection

group = typer.Typer(
    cls=CommandGroup, name="dead-letters", help="Show refused messages, and send them again.", no_args_is_help=True
)

Position = Annotated[str, typer.Argument(metavar="POSITION", help="partition/offset, as the list shows it.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")]


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.add_typer(group, rich_help_panel=RECORDS)


@group.command("list")
def list_(
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show at most the last N.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with the message.")] = False,
) -> None:
    """Show refused messages, oldest first."""
    import orjson

    from weir.infra.dead_letters.replay import letters, replays
    from weir.infra.dead_letters.view import as_lines, as_table

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
    raw: Annotated[bool, typer.Option("--raw", help="Print only the message, byte for byte.")] = False,
) -> None:
    """Show one refused message in full."""
    from weir.infra.dead_letters.replay import letter_at, replays
    from weir.infra.dead_letters.view import in_full

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
    all_: Annotated[bool, typer.Option("--all", help="Replay all letters that a job would accept now.")] = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TOPIC", help="Send to this topic instead of the original one.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Send with the current time, not their own.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also send letters that were replayed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Send refused messages again, as they came, to the topic they came from.

    A replay is a new message that names its dead letter. Dead letters that were replayed before are left out unless
    --again is given. With --reason or --all, messages that would be refused again are left out.
    """
    from weir.infra.dead_letters.letters import Planner
    from weir.infra.dead_letters.replay import Replayer
    from weir.infra.dead_letters.selection import DeadLetterSelection
    from weir.infra.runtime.clock import wall_clock
    from weir.schemas.errors import WeirError
    from weir.schemas.topics import by_name

    if sum((bool(positions), reason is not None, all_)) != 1:
        raise WeirError("no dead letters chosen: give positions, --reason REASON or --all")
    _check(reason)
    config = _ready()
    replayer = Replayer(config)
    latest = wall_clock() + config.max_skew
    planner = Planner(latest=latest, to=None if to is None else by_name(to), now=now)
    selection = DeadLetterSelection(config, planner, {} if again else replayer.replayed, positions or [], reason, say)
    chosen = selection.choose()
    if chosen and not agreed(_question(selection), yes, "nothing was sent"):
        raise typer.Exit(1)
    sent = _send(replayer, selection, chosen)
    print(f"replayed {sent}, left out {selection.left_out}")
    if positions and selection.left_out:
        raise typer.Exit(1)


def _check(reason: str | None) -> None:
    """Raises WeirError for a reason that no dead letter can have: a typing error is no empty list."""
    from weir.infra.dead_letters.letters import UNKNOWN
    from weir.schemas.dead_letters import Reason
    from weir.schemas.errors import WeirError

    known = [*Reason, UNKNOWN]
    if reason is not None and reason not in known:
        raise WeirError(f"unknown reason {reason!r}; known reasons: {', '.join(known)}")


def _question(selection: DeadLetterSelection) -> str:
    """Whether these shall be sent again: what they are is said on standard error."""
    for (reason, topic), count in selection.counts.most_common():
        print(f"{count:,} {reason} to {topic}", file=sys.stderr)
    return "Send them again?"


def _send(replayer: Replayer, selection: DeadLetterSelection, chosen: set[str]) -> int:
    sent = 0
    for count in replayer.send(selection.sendings(chosen) if chosen else ()):
        sent += count
        print(f"sent {sent:,} of {len(chosen):,}", file=sys.stderr)
    return sent


def _ready() -> Config:
    """The configuration, with the topics there."""
    from weir.infra.config import load
    from weir.infra.kafka.client import ensure_topics
    from weir.infra.kafka.topic_reader import PATIENCE_S
    from weir.schemas.topics import TOPICS

    config = load(os.environ)
    ensure_topics(config, TOPICS, timeout=PATIENCE_S)
    return config
