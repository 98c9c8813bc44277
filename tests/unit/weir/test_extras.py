"""An installation without an extra says what is missing and how to install it, wherever the extra is needed."""

from __future__ import annotations

import datetime as dt
import sys

import pytest
from typer.testing import CliRunner

from weir.cli.main import app
from weir.consumers.analytics.events import EventQuery
from weir.consumers.analytics.requests import NotAcceptableError, parse_daily
from weir.consumers.archive.reader import read
from weir.infra.errors import ArchiveUnavailableError, MissingExtraError
from weir.infra.extras import require
from weir.infra.http.parameters import BadRequestError

TODAY = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
REMEDY = r"needs pyarrow, .* pip install 'weir\[archive\]' \(in a clone: make setup\)"


@pytest.fixture(autouse=True)
def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import of pyarrow fails as where it is not installed."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)


def test_an_extra_that_is_missing_is_named_with_the_remedy() -> None:
    with pytest.raises(MissingExtraError, match=f"this {REMEDY}"):
        require("archive", "this")


@pytest.mark.parametrize("words", [[], ["list"], ["verify"]], ids=str)
def test_the_command_says_so_before_it_asks_for_anything(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["archive", *words])
    assert isinstance(result.exception, MissingExtraError)


def test_a_download_as_parquet_is_refused_and_other_formats_are_not() -> None:
    with pytest.raises(BadRequestError, match=REMEDY):
        parse_daily([("format", "parquet")], "", TODAY.date())
    with pytest.raises(NotAcceptableError, match=REMEDY):
        parse_daily([], "application/vnd.apache.parquet", TODAY.date())
    for accept in ("*/*", "application/vnd.apache.parquet, text/csv;q=0.5"):
        parse_daily([], accept, TODAY.date())


def test_archived_months_are_unavailable_and_the_log_says_why() -> None:
    with pytest.raises(ArchiveUnavailableError, match=REMEDY):
        read([], 7, EventQuery(TODAY, TODAY, 10))
