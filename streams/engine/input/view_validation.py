"""The stage that validates the topic of a view: a record that no view can use goes to the dead letters, once."""

from __future__ import annotations

from collections.abc import Sequence

from weir.schemas.codec import Decoder
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import Topic
from weir.schemas.topics import DEAD_LETTERS
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.offset_metadata import read_metadata, write_metadata
from weir.streams.engine.core.records import FlushBatch, Produce, Record, Stage
from weir.streams.engine.input.dead_letters import to_dead_letter


class ViewValidationStage(Stage):
    """Reads a view's topic as one task of the group, so that exactly one worker refuses what is not acceptable."""

    def __init__(self, job: str, topic: Topic, decoder: Decoder[object]) -> None:
        self._job, self._topic, self._decoder = job, topic, decoder
        self._routed = Routed()
        self._dead_letters: list[Produce] = []
        self._unflushed = False

    def restore(self, metadata: str | None) -> None:
        if metadata is not None:
            self._routed = read_metadata(metadata, Routed)

    def process(self, records: Sequence[Record]) -> None:
        for record in records:
            raws = list(self._decoder.elements(record.value()))
            for index, (decoded, raw) in enumerate(raws):
                element = decoded
                if record.timestamp()[1] < 0:
                    element = PoisonError(Reason.TIMESTAMP, "the record has no timestamp, or a negative one")
                if isinstance(element, PoisonError):
                    place = index if len(raws) > 1 else None
                    self._routed.dead += 1
                    self._dead_letters.append(
                        to_dead_letter(DEAD_LETTERS.name, self._topic.name, self._job, record, raw, place, element)
                    )
                else:
                    self._routed.counted += 1
        self._unflushed = True

    def take(self, changelog_end: int) -> FlushBatch | None:
        if not self._unflushed:
            return None
        produce, self._dead_letters, self._unflushed = self._dead_letters, [], False
        return FlushBatch(produce, write_metadata(self._routed))
