"""The plan of a chaos run: faults and their times, made from a seed. Pure: the same seed gives the same plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from weir.streams.engine.core.crash_points import STEPS

#: The most workers that a run has of each job.
MOST = 3
#: A victim is one of so many, modulo those that run: each of up to four or of six is as likely as the others.
PICKS = 12
#: Faust's session is 6 s (`weir.streams.engine.worker.app`): who is silent for longer loses its partitions and comes
#: back a zombie.
PAST_THE_SESSION = (7.0, 11.0)


class Kind(StrEnum):
    """The kinds of fault."""

    KILL = "kill -9 a worker; it is started again"
    KILL_ALL = "kill -9 every worker of a job at once"
    CRASH = "kill -9 a worker; the next ends by itself, at a step of a flush or while it restores"
    PAUSE = "SIGSTOP a worker, SIGCONT past its session"
    START = "start one more worker"
    STOP = "SIGTERM a worker"
    RESTART_BROKER = "kill -9 the broker, start it again"
    PAUSE_BROKER = "SIGSTOP the broker, then SIGCONT"
    RETENTION = "delete what is committed of the topics that the jobs read, then kill -9 a worker"
    OPEN_TRANSACTION = "leave a stranger's transaction open on a partition that the jobs read, abort it later"
    NEVER_READ = "send requests to every worker's HTTP endpoint, and read no answer"
    GROW_ASIDE = "add partitions to the topics of dead letters and late events"
    GROW = "add a partition to a topic that a job relies on"
    MAKE_ANEW = "delete a topic that a job relies on, and make it anew"


#: After one of these a job goes on only once a person has acted, so nothing can follow in a plan.
ENDINGS = (Kind.GROW, Kind.MAKE_ANEW)


@dataclass(frozen=True)
class Fault:
    """After `wait` seconds, in which `events` events are sent, `kind` happens to the worker or topic that `pick` says.

    A pause lasts `seconds`, and so does what strangers do; but for the broker's, the next faults happen meanwhile. A
    worker that is to crash does so at the step `crash`, when it comes there for the `times`-th time
    (`weir.streams.engine.core.crash_points`).
    """

    kind: Kind
    wait: float
    events: int
    pick: int
    seconds: float = 0.0
    crash: str = ""
    times: int = 1


@dataclass(frozen=True)
class Plan:
    """One run. `latency` is what is added to every answer of the broker to a worker, in seconds.

    Where it is `paced`, no fault comes before something was processed after the one before: on a machine that is slow
    to start workers, faults that hit none at work would show nothing.
    """

    seed: int
    workers: int
    latency: float
    faults: tuple[Fault, ...]
    paced: bool = False

    @property
    def events(self) -> int:
        """How many events are sent in all."""
        return sum(fault.events for fault in self.faults)

    @property
    def ends_refused(self) -> bool:
        """Whether a job refuses to go on at the end."""
        return self.faults[-1].kind in ENDINGS


#: A run of `make chaos`; the broker's pause is 30 s.
LONG = {
    Kind.KILL: 6, Kind.KILL_ALL: 1, Kind.CRASH: 4, Kind.PAUSE: 5, Kind.START: 3, Kind.STOP: 3, Kind.RESTART_BROKER: 1,
    Kind.PAUSE_BROKER: 1, Kind.RETENTION: 2, Kind.OPEN_TRANSACTION: 2, Kind.NEVER_READ: 1, Kind.GROW_ASIDE: 1,
}  # fmt: skip
#: A run of `make test`: one of each that a job goes on after.
SHORT = {kind: 1 for kind in Kind if kind not in ENDINGS}
#: How the long runs end, by their seeds: half of them refused.
LONG_ENDINGS = (None, Kind.GROW, None, Kind.MAKE_ANEW)
#: How long strangers' transactions and requests stay open at least, in seconds.
STRANGERS = (3.0, 9.0)


def make(
    seed: int,
    kinds: Mapping[Kind, int],
    events: int,
    broker_pause: float,
    waits: tuple[float, float],
    workers: tuple[int, int] = (1, MOST),
    pauses: tuple[float, float] = PAST_THE_SESSION,
    paced: bool = False,
    ending: Kind | None = None,
) -> Plan:
    """A plan with so many faults of each kind, `ending` as the last one, and `events` spread over them unevenly.

    `workers` are the fewest and the most of each job at the beginning, `pauses` the seconds that one is paused. Every
    third seed has 200 ms of latency. Starts and stops come in an order that keeps 1 to MOST workers wanted.
    """
    rng = Random(seed)
    wanted = rng.randint(*workers)
    order = _possible([kind for kind, times in kinds.items() for _ in range(times)], wanted, rng)
    order += [ending] if ending is not None else []
    weights = [rng.uniform(0.2, 2.0) for _ in order]
    shares = [int(events * weight / sum(weights)) for weight in weights]
    shares[-1] += events - sum(shares)
    seconds = {
        Kind.PAUSE: lambda: rng.uniform(*pauses),
        Kind.PAUSE_BROKER: lambda: broker_pause,
        Kind.OPEN_TRANSACTION: lambda: rng.uniform(*STRANGERS),
        Kind.NEVER_READ: lambda: rng.uniform(*STRANGERS),
    }
    faults = [
        Fault(
            kind,
            rng.uniform(*waits),
            share,
            rng.randrange(PICKS),
            seconds.get(kind, lambda: 0.0)(),
            *(_crash(rng) if kind is Kind.CRASH else ()),
        )
        for kind, share in zip(order, shares, strict=True)
    ]
    return Plan(seed, wanted, 0.2 if seed % 3 == 0 else 0.0, tuple(faults), paced)


def _crash(rng: Random) -> tuple[str, int]:
    """A step, and which time a worker comes there. A worker restores few times, and flushes often."""
    step = rng.choice(STEPS)
    return step, rng.randint(1, 2 if step == "restore" else 20)


def _possible(bag: list[Kind], workers: int, rng: Random) -> list[Kind]:
    """The bag in a random order in which no start and no stop goes past the bounds; what never fits is left out."""
    rng.shuffle(bag)
    order: list[Kind] = []
    while fits := [kind for kind in bag if 1 <= _after(kind, workers) <= MOST]:
        order.append(fits[0])
        workers = _after(fits[0], workers)
        bag.remove(fits[0])
    return order


def _after(kind: Kind, workers: int) -> int:
    """How many workers are wanted after it."""
    return workers + {Kind.START: 1, Kind.STOP: -1}.get(kind, 0)


def summary(plan: Plan) -> dict[str, int]:
    """How many faults of each kind."""
    return dict(Counter(fault.kind.name.lower() for fault in plan.faults))
