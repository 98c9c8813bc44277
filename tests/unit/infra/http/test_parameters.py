"""The rules that every route's parameters share: the field and the reason of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from weir.consumers.analytics import requests as analytics_requests
from weir.consumers.links import requests as link_requests
from weir.consumers.metrics import requests as aggregate_requests
from weir.consumers.monitoring import requests as client_requests
from weir.infra.http.parameters import (
    BadRequestError,
    parse_identifier,
    parse_int,
    parse_parameters,
    parse_segment,
    parse_time,
)
from weir.schemas.times import from_rfc3339

Pairs = list[tuple[str, str]]

NOW = from_rfc3339("2026-01-31T12:00:00Z")
ROUTES: Mapping[str, Callable[[Pairs], object]] = {
    "links": lambda pairs: link_requests.parse(pairs, NOW),
    "aggregates": aggregate_requests.parse,
    "clients": client_requests.parse_list,
    "client": client_requests.parse_dump,
    "events": lambda pairs: analytics_requests.parse_events(pairs, "", NOW),
}
NUMBERS = {"links": "limit", "aggregates": "minutes", "clients": "limit", "client": "limit", "events": "limit"}


def refusal(ask: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(BadRequestError) as caught:
        ask()
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_refuses_what_it_does_not_know_in_the_same_words(route: str) -> None:
    field, reason = refusal(lambda: ROUTES[route]([("form", "1")]))
    assert field == "form"
    assert reason.startswith("unknown query parameter; allowed: ")
    assert NUMBERS[route] in reason


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_refuses_what_is_given_twice_in_the_same_words(route: str) -> None:
    name = NUMBERS[route]
    assert refusal(lambda: ROUTES[route]([(name, "1"), (name, "1")])) == (name, "is given more than once")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", ["0", "-1", "1.0", "", " 1", "²", "١", "10001", "9" * 5000], ids=lambda text: text[:9])
def test_every_route_refuses_what_is_no_number_in_the_same_words(route: str, text: str) -> None:
    field, reason = refusal(lambda: ROUTES[route]([(NUMBERS[route], text)]))
    assert field == NUMBERS[route]
    assert reason.startswith(f"{text[:40]!r} is not a whole number from 1 to ")


def test_what_is_known_and_given_once_is_there_by_its_name() -> None:
    assert parse_parameters([("to", ""), ("from", "b=c")], ("from", "to")) == {"from": "b=c", "to": ""}


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("1000", 1000), ("0007", 7)])
def test_a_whole_number_is_one_within_its_bounds(text: str, number: int) -> None:
    assert parse_int("limit", text, 1000) == number


def test_a_number_may_be_as_large_as_the_largest_tenant() -> None:
    assert parse_int("tenant_id", str(2**63 - 1), 2**63 - 1) == 2**63 - 1
    assert refusal(lambda: parse_int("tenant_id", str(2**63), 2**63 - 1))[0] == "tenant_id"


def test_a_time_with_a_space_gets_the_hint_what_became_of_its_plus() -> None:
    assert parse_time("to", "2026-01-31T13:00:00+01:00", from_rfc3339) == NOW
    assert refusal(lambda: parse_time("to", "2026-01-31T13:00:00 01:00", from_rfc3339))[1].endswith("written `%2B`)")
    assert "%2B" not in refusal(lambda: parse_time("to", "noon", from_rfc3339))[1]


@pytest.mark.parametrize(("path", "found"), [("/clients/a%2Fb", "a/b"), ("/clients/%252F", "%2F"), ("/clients/ü", "ü")])
def test_a_segment_is_decoded_once(path: str, found: str) -> None:
    assert parse_segment("client_id", path) == found


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/clients/a/b", "write a slash in it as %2F"),
        ("/clients", "one segment"),
        ("/clients/%FF", "is not percent-encoded UTF-8"),
        ("/clients/", ""),
        ("/clients/%00", ""),
    ],
)
def test_a_path_without_one_good_segment_is_refused_with_the_field(path: str, reason: str) -> None:
    field, told = refusal(lambda: parse_segment("client_id", path))
    assert field == "client_id"
    assert told
    assert reason in told


def test_a_bad_id_is_refused_with_its_field() -> None:
    assert parse_identifier("key", "cpu") == "cpu"
    assert refusal(lambda: parse_identifier("key", "a\nb"))[0] == "key"
