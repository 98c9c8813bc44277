"""Dead letters in columns: everything of them where there is room, the long parts cut where there is none."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from weir.infra.dead_letters.letters import to_letter
from weir.infra.dead_letters.view import as_table
from weir.infra.kafka.record_view import RecordView
from weir.schemas.dead_letters import Origin, Reason, Replay, to_headers

ORIGIN = Origin(
    Reason.UNKNOWN_CHILD, "nobody declared 子-1\x1b[31m", "communications", 41, 2, element=3, timestamp=60_000
)
LETTERS = [
    to_letter(RecordView("dead-letters", 0, number, 9000, None, b"{}", to_headers(ORIGIN))) for number in (0, 17)
]
REPLAYS = {"0/17": Replay("0/17", "communications", "2026-01-31T12:00:00Z")}


def test_where_there_is_room_nothing_is_cut() -> None:
    lines = list(as_table(LETTERS, REPLAYS, 200))
    assert lines[0].split() == ["position", "time", "reason", "from", "detail", "replayed"]
    first = "0/0       1970-01-01T00:01:00Z  unknown-child  communications 2@41[3]  nobody declared 子-1\\x1b[31m"
    assert lines[1:] == [first, first.replace("0/0 ", "0/17") + "  yes"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_line_fits_the_terminal(width: int) -> None:
    lines = list(as_table(LETTERS, REPLAYS, width))
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].startswith("position  time")
    assert lines[2].endswith("yes")


def test_no_letters_are_a_heading() -> None:
    assert len(list(as_table([], {}, 80))) == 1
