"""How far an answer is behind what was accepted, and waiting until it has a position.

Kafka is asked once a second, more often while something is under way or somebody waits; whoever asks for the lag gets
what was seen last, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import OverloadError, RetryableError, WeirError
from weir.infra.progress.chain import Chain, ChainSurvey, Offsets, Surveyor
from weir.infra.progress.cut import Cut, since, waiting, went_back
from weir.infra.progress.position import BadPositionError, Position, to_text
from weir.infra.runtime.threads import in_daemon
from weir.schemas.topic import PartitionId

#: The pauses between two questions to Kafka, in seconds: at rest, while something is under way, while somebody waits,
#: and while nobody has begun to wait for as long as `_NEW` says.
_REST, _BUSY, _AWAITED, _LONG_AWAITED = 1.0, 0.25, 0.02, 0.1
_NEW = 0.5
#: After how many seconds without an answer the lag is unknown.
_SILENT = 5.0
#: So many cuts are under way at most to measure the lag, and so many requests may wait.
_CUTS, _WAITING = 16, 1_000

_log = log.get_logger("progress")


class Lag(msgspec.Struct, frozen=True):
    """How far an answer is behind what Kafka has acknowledged.

    The answer has all that was written `ms` milliseconds ago; None: no such moment is known. `records` of the source
    were written since then, or, where none is known, so many records wait somewhere between the source and the answer;
    None: Kafka does not answer. Both are as of a second ago.
    """

    records: int | None
    ms: int | None


UNKNOWN = Lag(None, None)


class BehindError(RetryableError):
    """The answer does not have the position yet."""


class Progress:
    """The progress of one chain; of one event loop, but for `lag`, which any thread may call.

    `positions` gives how far the results are in the answer, `is_whole` whether nothing before that is missing. Where
    others store the results, `stored` is asked for how far, and raises WeirError where that is not known.
    """

    def __init__(
        self,
        config: Config,
        chain: Chain,
        positions: Callable[[], Mapping[PartitionId, int]] | None = None,
        is_whole: Callable[[], bool] = lambda: True,
        stored: Callable[[], Awaitable[Mapping[PartitionId, int]]] | None = None,
    ) -> None:
        self._config, self._chain = config, chain
        self._positions, self._is_whole, self._stored = positions, is_whole, stored
        self._surveyor: Surveyor | None = None
        self._survey: ChainSurvey | None = None
        self._acknowledged: dict[int, int] = {}
        self._cuts: deque[Cut] = deque()
        self._passed: Cut | None = None  # the latest that is in the answer
        self._waiting: dict[Cut, asyncio.Future[None]] = {}
        self._wanted = asyncio.Event()
        self._away = False

    @property
    def is_known(self) -> bool:
        """Whether Kafka has told how far the chain is, and of its source: positions can be made and waited for."""
        return self._survey is not None and self._survey.number is not None

    async def work(self) -> None:
        """Runs until cancelled, however long Kafka is away."""
        try:
            while True:
                self._wanted.clear()
                await self._ask()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wanted.wait()
        finally:
            for passed in self._waiting.values():
                if not passed.done():
                    passed.set_exception(BehindError("the service is stopping; retry later"))

    def lag(self, is_away: bool = False) -> Lag:
        """How far the answer is behind. `is_away`: it is known from elsewhere that Kafka does not answer."""
        survey, now = self._survey, time.monotonic()
        if survey is None:
            return UNKNOWN
        passed = self._passed if self._is_whole() else None
        ms = None if passed is None else int((now - passed.begun) * 1000)
        if is_away or now - survey.asked > _SILENT:
            return Lag(None, ms)
        if passed is None:
            records = waiting(survey, self._read(survey))
        else:
            records = since(survey, self._acknowledged, passed.source)
        return Lag(records, ms if records else 0)

    def acknowledge(self, offsets: Offsets) -> None:
        """Records that Kafka has the source's records up to these offsets; the lag counts them from now on."""
        for partition, offset in offsets.items():
            self._acknowledged[partition] = max(offset, self._acknowledged.get(partition, -1))

    def position(self, offsets: Offsets, whole: bool = False) -> str | None:
        """The position of records of the source that were acknowledged, or, where `whole`, of all that were said to be.

        None where there are none, they are too many partitions', or Kafka has not told the topic's id yet.
        """
        survey = self._survey
        if survey is None or survey.number is None:
            return None
        return to_text(Position(survey.number, self._acknowledged if whole else offsets))

    async def wait(self, position: Position | None, seconds: float) -> None:
        """Returns once the answer has all up to the position; None: all that Kafka has now.

        Raises BadPositionError where the source has no such position, BehindError after so many seconds, and
        OverloadError where too many wait.
        """
        if len(self._waiting) >= _WAITING:
            raise OverloadError(f"{_WAITING} requests already wait for positions; retry later")
        cut, passed = Cut(time.monotonic(), position), asyncio.get_running_loop().create_future()
        self._waiting[cut] = passed
        self._wanted.set()
        try:
            async with asyncio.timeout(seconds):
                await passed
        except TimeoutError as e:
            raise BehindError(f"the answer did not include this position within {seconds:g} s; retry later") from e
        finally:
            del self._waiting[cut]

    async def _ask(self) -> None:
        try:
            stored = None if self._stored is None else await self._stored()
            survey = await in_daemon(partial(self._look, stored))
        except WeirError as e:
            if not self._away:
                _log.warning("progress.unknown", results=list(self._chain.results), error=str(e))
            self._away = True
            return
        self._away = False
        self._take(survey)

    def _look(self, stored: Mapping[PartitionId, int] | None) -> ChainSurvey:
        if self._surveyor is None:
            self._surveyor = Surveyor(self._config, self._chain)
        return self._surveyor.ask(stored)

    def _take(self, survey: ChainSurvey) -> None:
        before, self._survey = self._survey, survey
        is_other = before is not None and before.number is not None and before.number != survey.number
        if is_other:
            self._acknowledged.clear()  # of a topic that is no more
        if is_other or not self._is_whole() or (before is not None and went_back(before, survey)):
            self._cuts.clear()
            self._passed = None
            for cut in self._waiting:
                cut.begin_again()
        if len(self._cuts) < _CUTS and (not self._cuts or survey.asked - self._cuts[-1].begun >= _BUSY):
            self._cuts.append(Cut(survey.asked))
        positions = self._read(survey)
        for cut in self._cuts:
            cut.advance(survey)
        while self._cuts and self._cuts[0].passed(positions):
            self._passed = self._cuts.popleft()
        for cut, passed in self._waiting.items():
            if passed.done():
                continue
            try:
                cut.advance(survey)
            except BadPositionError as e:
                passed.set_exception(e)
                continue
            if cut.passed(positions) and self._is_whole():
                passed.set_result(None)

    def _read(self, survey: ChainSurvey) -> Mapping[PartitionId, int]:
        return survey.stored if self._positions is None else self._positions()

    def _pause(self) -> float:
        if self._away:
            return _REST
        if self._waiting:
            return _AWAITED if time.monotonic() - max(cut.begun for cut in self._waiting) < _NEW else _LONG_AWAITED
        return _BUSY if self.lag().records or not self.is_known else _REST
