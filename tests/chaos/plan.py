"""What goes wrong in one run, and when: a seed to a list of faults. Pure: a seed always gives the same plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

#: The most workers that a run has.
MOST = 3
#: Faust's session is 6 s (`streams.engine.app`): who is silent for longer loses its partitions and comes back a zombie.
PAST_THE_SESSION = (7.0, 11.0)


class Kind(StrEnum):
    """What can go wrong."""

    KILL = "kill -9 a worker; it is started again"
    PAUSE = "SIGSTOP a worker, SIGCONT past its session"
    START = "start one more worker"
    STOP = "SIGTERM a worker"
    RESTART_BROKER = "kill -9 the broker, start it again"
    PAUSE_BROKER = "SIGSTOP the broker, then SIGCONT"


@dataclass(frozen=True)
class Fault:
    """After `wait` seconds, in which `events` events are sent, `kind` happens to the worker that `pick` says.

    A pause lasts `seconds`; a worker's goes on while the next faults happen.
    """

    kind: Kind
    wait: float
    events: int
    pick: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """One run. `latency` is what is added to every answer of the broker to a worker, in seconds."""

    seed: int
    workers: int
    latency: float
    faults: tuple[Fault, ...]

    @property
    def events(self) -> int:
        """How many events are sent in all."""
        return sum(fault.events for fault in self.faults)


#: A run of `make chaos`; the broker's pause is 30 s.
LONG = {Kind.KILL: 8, Kind.PAUSE: 5, Kind.START: 3, Kind.STOP: 3, Kind.RESTART_BROKER: 1, Kind.PAUSE_BROKER: 1}
#: A run of `make test`: one of each.
SHORT = dict.fromkeys(Kind, 1)


def make(seed: int, kinds: Mapping[Kind, int], events: int, broker_pause: float, waits: tuple[float, float]) -> Plan:
    """A plan with so many faults of each kind, and `events` spread over them unevenly.

    Every third seed has 200 ms of latency. Starts and stops come in an order that keeps 1 to MOST workers wanted.
    """
    rng = Random(seed)
    workers = rng.randint(1, MOST)
    order = _possible([kind for kind, times in kinds.items() for _ in range(times)], workers, rng)
    weights = [rng.uniform(0.2, 2.0) for _ in order]
    shares = [int(events * weight / sum(weights)) for weight in weights]
    shares[-1] += events - sum(shares)
    seconds = {Kind.PAUSE: lambda: rng.uniform(*PAST_THE_SESSION), Kind.PAUSE_BROKER: lambda: broker_pause}
    faults = [
        Fault(kind, rng.uniform(*waits), share, rng.randrange(MOST), seconds.get(kind, lambda: 0.0)())
        for kind, share in zip(order, shares, strict=True)
    ]
    return Plan(seed, workers, 0.2 if seed % 3 == 0 else 0.0, tuple(faults))


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
