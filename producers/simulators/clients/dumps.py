"""Reads the data that weir holds of clients, as any HTTP client would: `GET /clients`, page by page."""

from __future__ import annotations

import http.client
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from weir.producers.simulators.clients.check import Dump, Gone, SeriesEvent, in_one_form
from weir.producers.simulators.clients.sending import HttpClient, UnexpectedAnswerError
from weir.schemas.errors import WeirError

#: Events per page.
PAGE = 1000


class NobodyAnswersError(WeirError):
    """Monitoring does not answer."""


class _Event(msgspec.Struct, frozen=True):
    event_id: str
    event_timestamp: int
    event_value: msgspec.Raw


class _Total(msgspec.Struct, frozen=True, tag_field="event_type", tag="CUMULATIVE"):
    event_value: Decimal
    events: int


class _Truncated(msgspec.Struct, frozen=True):
    events: int
    until: int


class _SeriesDump(msgspec.Struct, frozen=True, tag_field="event_type", tag="TIME-SERIES"):
    events: list[_Event]
    truncated: _Truncated | None = None


class _Page(msgspec.Struct, frozen=True):
    data: dict[str, _Total | _SeriesDump]
    next: str | None = None


_page = msgspec.json.Decoder(_Page).decode


class Dumps:
    """Reads dumps from monitoring at `url`. For one thread. Raises ConfigError if `url` is not an address."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = HttpClient(url)

    def check(self) -> None:
        """Raises NobodyAnswersError where nobody answers, and UnexpectedAnswerError where it is somebody else."""
        try:
            status, body = self._get("/clients?limit=1")
        except (OSError, http.client.HTTPException) as e:
            raise NobodyAnswersError(f"no monitoring service answers at {self._url}: {e}; `weir up` starts one") from e
        if status not in (200, 503):
            raise _unexpected("/clients", status, body)

    def of(self, client_id: str) -> Dump | None:
        """Returns all data that weir holds of the client; None if weir does not know the client.

        Raises OSError, http.client.HTTPException and UnexpectedAnswerError.
        """
        dump = Dump({}, {})
        query: dict[str, Any] = {"limit": PAGE}
        while True:
            path = f"/clients/{quote(client_id, safe='')}"
            status, body = self._get(f"{path}?{urlencode(query)}")
            if status == 404:
                return None
            if status != 200:
                raise _unexpected(path, status, body)
            page = _page(body)
            _add(dump, page)
            if page.next is None:
                return dump
            query["cursor"] = page.next

    def _get(self, path: str) -> tuple[int, bytes]:
        try:
            self._http.send("GET", path)
            status, _, body = self._http.answer()
        except (OSError, http.client.HTTPException):
            self._http.close()
            raise
        return status, body


def _add(dump: Dump, page: _Page) -> None:
    for key, found in page.data.items():
        if isinstance(found, _Total):
            dump.sums[key] = found.event_value
        else:
            dump.series.setdefault(key, []).extend(
                (e.event_id, SeriesEvent(e.event_timestamp, in_one_form(e.event_value))) for e in found.events
            )
            if found.truncated is not None:
                dump.gone[key] = Gone(found.truncated.events, found.truncated.until)


def _unexpected(path: str, status: int, body: bytes) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"GET {path} returned HTTP {status}: {body[:500].decode(errors='replace')}")
