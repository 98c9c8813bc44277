"""Which dead letters a replay sends, and why it leaves others out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from weir.infra.config import Config
from weir.infra.dead_letters.letters import CannotReplayError, Letter, Planner, Sending
from weir.infra.dead_letters.replay import letter_at, letters
from weir.schemas.dead_letters import Replay

#: Letters left out that are told one by one, where nobody named them.
TOLD = 20


class DeadLetterSelection:
    """Selects dead letters: those at `positions`, or without positions those with `reason`, or all.

    What was replayed before, and what cannot be replayed, is left out, and `say` is told why. What would only be
    refused again is left out as well, unless it was named. They are read twice, to choose and to send, so that they
    need not all be in memory.
    """

    def __init__(
        self,
        config: Config,
        planner: Planner,
        replayed: Mapping[str, Replay],
        positions: Sequence[str],
        reason: str | None,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._planner = planner
        self._replayed = replayed
        self._positions = list(dict.fromkeys(positions))
        self._reason = reason
        self._say = say
        #: How many are to be sent, by reason and topic.
        self.counts: Counter[tuple[str, str]] = Counter()
        self.left_out = 0

    def choose(self) -> set[str]:
        """The positions of all that are to be sent. Raises WeirError where a named one does not exist."""
        return {letter.position for letter in self._asked_for() if self._is_chosen(letter)}

    def sendings(self, chosen: set[str]) -> Iterator[Sending]:
        """Yields the records to send for each of the chosen dead letters."""
        for letter in self._asked_for():
            if letter.position in chosen:
                yield self._planner.plan(letter)

    def _asked_for(self) -> Iterator[Letter]:
        if self._positions:
            for position in self._positions:
                yield letter_at(self._config, position)
            return
        for letter in letters(self._config):
            if self._reason in (None, letter.reason):
                yield letter

    def _is_chosen(self, letter: Letter) -> bool:
        if (before := self._replayed.get(letter.position)) is not None:
            self._leave_out(f"{letter.position} was replayed to {before.topic} at {before.at}; --again repeats it")
            return False
        try:
            sending = self._planner.plan(letter)
        except CannotReplayError as e:
            self._leave_out(str(e))
            return False
        if sending.doubt is not None:
            doubt = f"{letter.position} would be refused again: {sending.doubt}"
            if not self._positions:
                self._leave_out(doubt)
                return False
            self._say(f"warning: {doubt}")
        self.counts[letter.reason, sending.topic.name] += 1
        return True

    def _leave_out(self, why: str) -> None:
        self.left_out += 1
        if self._positions or self.left_out <= TOLD:
            self._say(why)
