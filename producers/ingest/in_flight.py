"""Budget of the bytes in flight (events and their verdicts), and whether Kafka is reachable."""

from __future__ import annotations

from weir.infra import log
from weir.infra.errors import WeirError
from weir.infra.http import Budget

_log = log.get_logger("ingest")


class InFlightBudget(Budget):
    """For one intake of that name, and `limit` bytes.

    `size` is how many bytes are in flight: of bodies, of records that wait for Kafka, and of verdicts that are not
    answered yet. `away` says whether Kafka was away when last heard of.
    """

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(limit)
        self._name = name
        self.away = False

    def heard(self, error: WeirError | None) -> None:
        """Records the result of a delivery or of a health probe, and updates `away`."""
        away = error is not None
        if away != self.away:
            self.away = away
            say = _log.warning if away else _log.info
            facts = {"intake": self._name, "in_flight_bytes": self.size} | ({"error": str(error)} if away else {})
            say("ingest.waiting" if away else "ingest.goes_on", **facts)
