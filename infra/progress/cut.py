"""The way of all that a source held at one moment, or up to a position, through a chain of readers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weir.infra.progress.chain import ChainSurvey, Offsets
from weir.infra.progress.position import BadPositionError, Position
from weir.schemas.topic import PartitionId


class Cut:
    """Is in the answer once `passed` says so. `begun`: seconds, monotonic; earlier surveys say nothing of it.

    What the source held, by `position` or, where that is None, at the first survey, has passed a step once the step's
    group has committed all of it. What comes of it then is in the next topic, before the high watermark of a later
    moment: that is what the next step has to pass. A last stable offset would not do: the marker that commits an offset
    may be there before the marker that makes the same transaction's records readable.
    """

    def __init__(self, begun: float, position: Position | None = None) -> None:
        self.begun = begun
        self.source: Offsets = {}  # what has to pass, once a survey was seen
        self._position = position
        self._stage = 0
        self._wanted: Offsets | None = None
        self._results: Mapping[PartitionId, int] | None = None

    def advance(self, survey: ChainSurvey) -> None:
        """Goes as far as the survey shows. Raises BadPositionError for a position that the source does not have."""
        if survey.asked < self.begun or self._results is not None:
            return
        if self._wanted is None:
            self.source = survey.source if self._position is None else _beyond(self._position, survey)
            self._wanted = self.source
        if not survey.reached:
            self._results = survey.written
            return
        while _has(survey.reached[self._stage], self._wanted):
            self._stage += 1
            if self._stage == len(survey.reached):
                self._results = survey.written
                return
            self._wanted = survey.ends[self._stage]

    def begin_again(self) -> None:
        """Forgets how far it went: the steps, or the answer, begin again."""
        self._stage, self._wanted, self._results = 0, None, None

    def passed(self, positions: Mapping[PartitionId, int]) -> bool:
        """Whether an answer that has read the results up to these offsets has all of it."""
        return self._results is not None and _has(positions, self._results)


def since(survey: ChainSurvey, acknowledged: Offsets, passed: Offsets) -> int:
    """How many offsets of the source lie beyond those that have `passed`.

    `acknowledged`: offsets of the source that were written, though the survey may not have seen them yet.
    """
    ends = {partition: offset + 1 for partition, offset in acknowledged.items()}
    for partition, end in survey.source.items():
        ends[partition] = max(end, ends.get(partition, 0))
    return sum(max(0, end - passed.get(partition, 0)) for partition, end in ends.items())


def waiting(survey: ChainSurvey, positions: Mapping[PartitionId, int]) -> int:
    """How many records wait somewhere on the way to an answer that has read the results up to `positions`."""
    steps = zip(survey.reached, survey.ends, strict=True)
    on_the_way = sum(max(0, end - reached[partition]) for reached, ends in steps for partition, end in ends.items())
    return on_the_way + sum(max(0, end - positions.get(place, 0)) for place, end in survey.stable.items())


def went_back(before: ChainSurvey, now: ChainSurvey) -> bool:
    """Whether a step, or what stores the results, is not as far as it was: it was reset, and begins again."""
    return not _has(now.committed, before.committed)


def _beyond(position: Position, survey: ChainSurvey) -> Offsets:
    if survey.number is None or position.topic != survey.number:
        raise BadPositionError("belongs to another topic, or to one that was deleted and created again")
    for partition, offset in position.offsets.items():
        if offset >= survey.source.get(partition, 0):
            raise BadPositionError(f"has offset {offset} of partition {partition}, which the topic does not have")
    return {partition: offset + 1 for partition, offset in position.offsets.items()}


def _has(reached: Mapping[Any, int], wanted: Mapping[Any, int]) -> bool:
    return all(reached.get(place, 0) >= end for place, end in wanted.items())
