"""A simulation of monitored clients from its start to the comparison of what weir has with what they sent."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from weir.infra.runtime.clock import wall_clock
from weir.producers.simulators.clients.check import Dump, SentByClient
from weir.producers.simulators.clients.dumps import Dumps
from weir.producers.simulators.clients.events import SimulatedClient
from weir.producers.simulators.clients.sending import TIMEOUT_S, SimulatedSender
from weir.schemas.errors import WeirError

#: Seconds between two looks at what weir has.
LOOK_S = 1.0
#: Seconds that what is on its way when the simulation is ended has to be answered.
ENDING_S = 5.0


@dataclass(frozen=True)
class Compared:
    """One client: what it sent, how what weir has differs from it, and how many keys were compared."""

    sent: SentByClient
    differences: list[str]
    keys: int


class ClientsSimulation:
    """`clients` clients that together send `rate` new events per second to monitoring at `url`, each from a thread.

    `duration`: seconds, None: until `stop`. Raises ConfigError for values that make no simulation.
    """

    def __init__(self, url: str, clients: int, rate: float, duration: float | None, seed: int) -> None:
        self._dumps = Dumps(url)
        self._stop, self._give_up = threading.Event(), threading.Event()
        start, begin = wall_clock(), time.monotonic()
        self._begin = self._ended = begin
        planned = [SimulatedClient(seed, number, start, rate / clients, duration) for number in range(clients)]
        self.senders = [
            SimulatedSender(client.client_id, client.requests(), url, begin, self._stop, self._give_up)
            for client in planned
        ]

    def start(self) -> None:
        """Sends from now on. Raises WeirError where nobody answers."""
        self._dumps.check()
        for sender in self.senders:
            sender.start()

    def wait(self) -> None:
        """Returns once all have sent all that they have, or one could not go on. Blocks."""
        while any(sender.is_alive() for sender in self.senders) and not any(sender.error for sender in self.senders):
            self._stop.wait(0.1)

    def stop(self) -> None:
        """Sends nothing new, and waits for the answers to what was sent. Raises what ended a client early. Blocks."""
        self._stop.set()
        self._ended = time.monotonic()
        deadline = time.monotonic() + ENDING_S
        for sender in self.senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        self._give_up.set()
        for sender in self.senders:
            sender.join(TIMEOUT_S + ENDING_S)
        if error := next((sender.error for sender in self.senders if sender.error), None):
            raise error

    def pace(self) -> str:
        """How much was sent, and how fast."""
        events, seconds = sum(sender.sent.events for sender in self.senders), self._ended - self._begin
        return f"{events:,} events sent in {seconds:.1f} s, {events / seconds:,.0f} a second"

    def compare(self, patience: float) -> list[Compared]:
        """Looks at what weir has until it is what was sent, for at most about `patience` seconds. Blocks.

        And then once more: what counts twice may do so late.
        """
        deadline = time.monotonic() + patience
        self._look(deadline)
        time.sleep(LOOK_S)
        return self._look(deadline)

    def _look(self, deadline: float) -> list[Compared]:
        compared: dict[SimulatedSender, Compared] = {}
        late = self.senders
        while True:
            compared |= {sender: self._compared(sender.sent) for sender in late}
            late = [sender for sender in late if compared[sender].differences]
            if not late or time.monotonic() > deadline:
                return [compared[sender] for sender in self.senders]
            time.sleep(LOOK_S)

    def _compared(self, sent: SentByClient) -> Compared:
        differences: Sequence[str]
        dump: Dump | None = None
        try:
            dump = self._dumps.of(sent.client_id)
            differences = sent.differences(dump)
        except (OSError, http.client.HTTPException, WeirError) as e:
            differences = [f"its data cannot be read: {e}"]
        keys = len(sent.keys - sent.in_doubt)
        return Compared(sent, list(differences), keys)
