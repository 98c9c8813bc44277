"""The stage that screens a view's topic: what no worker's view can use goes to the dead letters, once."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.codec import Decoder
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.topic import Topic
from schemas.topics import DEAD_LETTERS
from streams.engine.aside import set_aside
from streams.engine.ledger import Routed
from streams.engine.metadata import read_metadata, write_metadata
from streams.engine.records import Batch, Produce, Record, Stage


class Screen(Stage):
    """Reads a view's topic as one task of the group, so that exactly one worker refuses what is not acceptable."""

    def __init__(self, job: str, topic: Topic, decoder: Decoder[object]) -> None:
        self._job, self._topic, self._decoder = job, topic, decoder
        self._routed = Routed()
        self._aside: list[Produce] = []
        self._news = False

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
                    self._aside.append(
                        set_aside(DEAD_LETTERS.name, self._topic.name, self._job, record, raw, place, element)
                    )
                else:
                    self._routed.counted += 1
        self._news = True

    def take(self, changelog_end: int) -> Batch | None:
        if not self._news:
            return None
        produce, self._aside, self._news = self._aside, [], False
        return Batch(produce, write_metadata(self._routed))
