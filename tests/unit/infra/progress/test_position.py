"""Positions as texts: every one comes back, nothing else is taken for one, and all of them fit into a URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.progress.position import MOST, BadPositionError, Position, from_text, to_text, topic_number

OFFSETS = st.integers(0, (1 << 62) - 1)
POSITIONS = st.builds(
    Position,
    st.integers(0, (1 << 32) - 1),
    st.dictionaries(st.integers(0, (1 << 16) - 1), OFFSETS, min_size=1, max_size=50),
)


@given(POSITIONS)
def test_a_position_comes_back_from_its_text(position: Position) -> None:
    text = to_text(position)
    assert text is not None
    assert from_text(text) == position


@given(POSITIONS, st.data())
def test_a_text_that_was_cut_off_or_mistyped_is_none(position: Position, data: st.DataObject) -> None:
    text = to_text(position)
    assert text is not None
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("abcxyzABCXYZ0129-_").filter(lambda letter: letter != text[at]))
    for wrong in (cut, text[:at] + other + text[at + 1 :], text + "A", text + "=", " " + text):
        with pytest.raises(BadPositionError):
            from_text(wrong)


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.hex())))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(BadPositionError):
        from_text(text)


def test_the_longest_fits_into_a_url_and_a_longer_one_is_not_made() -> None:
    far_apart = {131 * n: (1 << 62) * (n % 2) for n in range(MOST)}
    text = to_text(Position((1 << 32) - 1, far_apart))
    assert text is not None
    assert len(text) < 7_500
    assert from_text(text).offsets == far_apart
    assert to_text(Position(1, dict.fromkeys(range(MOST + 1), 1))) is None
    assert to_text(Position(1, {})) is None


def test_one_of_four_partitions_is_short() -> None:
    text = to_text(Position((1 << 32) - 1, {partition: 1_000_000_000 + partition for partition in range(4)}))
    assert text is not None
    assert len(text) <= 32


def test_a_topic_that_is_made_anew_has_another_number() -> None:
    assert topic_number("t", "a") != topic_number("t", "b") != topic_number("u", "b")
