"""Finds the rows that Postgres does not take: by halves, each within a savepoint."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from weir.consumers.sinks.batch import RefusedRow, TableRows, refusal
from weir.infra import postgres
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError


class RowBisector:
    """Puts what can be put for the sink `job`. `trials` counts how often that was tried: fewer than twice per row."""

    def __init__(self, job: str) -> None:
        self._job = job
        self.trials = 0

    def put(
        self,
        connection: psycopg.Connection,
        part: TableRows,
        put: Callable[[TableRows], object],
        refused: list[RefusedRow],
    ) -> TableRows:
        """Puts the rows, in their order, within the caller's transaction; returns those that were taken.

        The others go to `refused`, with what Postgres says of each. Raises psycopg.Error for any other trouble.
        """
        lost = set()
        left = [(0, len(part.rows))]
        while left:
            start, end = left.pop()
            self.trials += 1
            try:
                with connection.transaction():
                    put(part.between(start, end))
            except psycopg.Error as e:
                if not postgres.is_refusal(e):
                    raise
                if end - start > 1:
                    middle = (start + end) // 2
                    left += [(middle, end), (start, middle)]  # the first half is tried first: later rows stand
                else:
                    lost.add(start)
                    refused.append(refusal(self._job, part.sources[start], _poison(e)))
        return part.without(lost)


def _poison(error: psycopg.Error) -> PoisonError:
    said = error.diag.message_primary or str(error)
    return PoisonError(
        Reason.INVALID, f"Postgres: {said}" + (f" ({more})" if (more := error.diag.message_detail) else "")
    )
