"""Basic authentication: what is right, what is malformed, and how guessing is slowed down. Time is a number here."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra import config as configuration
from weir.infra.connections.addresses import is_loopback
from weir.infra.errors import ConfigError
from weir.infra.websocket import basic_auth
from weir.infra.websocket.basic_auth import BasicAuth, LoginResult, check_credentials


def header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


RIGHT = header("user", "pwd")
WRONG = header("user", "guess")


def auth() -> BasicAuth:
    return BasicAuth("user", "pwd")


@given(st.text().filter(lambda t: ":" not in t), st.text())
def test_any_credentials_let_in_those_who_know_them_and_nobody_else(user: str, password: str) -> None:
    check = BasicAuth(user, password).check
    assert check(header(user, password), "10.0.0.1", 0.0) == LoginResult(200)
    assert check(header(user, password + "x"), "10.0.0.1", 0.0) == LoginResult(401)
    assert check(header(user + "x", password), "10.0.0.2", 0.0) == LoginResult(401)


@pytest.mark.parametrize("scheme", ["Basic ", "basic ", "BASIC    "])
def test_the_schemes_case_and_spaces_do_not_matter(scheme: str) -> None:
    assert auth().check(RIGHT.replace("Basic ", scheme), "10.0.0.1", 0.0).status == 200


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "Basic",
        "Basic ",
        "Basic dXNlcjpwd2Q",  # padding is missing
        "Basic dXNlcjpwd2Q= x",
        "Basic dXNlcjpwd2Q=, Basic dXNlcjpwd2Q=",
        "Basic dXNl\x00cjpwd2Q=",
        "Basic üser",
        "Basic dXNlcg==",  # no colon
        "Basic =",
        "Bearer dXNlcjpwd2Q=",
        "dXNlcjpwd2Q=",
        'Digest username="user"',
    ],
)
def test_a_malformed_header_is_a_wrong_attempt(malformed: str) -> None:
    guard = auth()
    assert guard.check(malformed, "10.0.0.1", 0.0) == LoginResult(401)
    assert len(guard) == 1


@given(st.text())
def test_no_header_whatsoever_does_harm(text: str) -> None:
    assert auth().check(text, "10.0.0.1", 0.0).status in (200, 401)


def test_no_credentials_are_not_let_in_where_there_are_none_to_give() -> None:
    assert BasicAuth("", "").check("Basic", "10.0.0.1", 0.0).status == 401


def test_to_ask_without_credentials_is_no_guess() -> None:
    guard = auth()
    assert [guard.check(None, "10.0.0.1", 0.0) for _ in range(20)] == [LoginResult(401)] * 20
    assert len(guard) == 0


def test_who_guesses_one_after_the_other_waits_longer_each_time() -> None:
    guard, now, delays = auth(), 100.0, []
    for _ in range(9):
        verdict = guard.check(WRONG, "10.0.0.1", now)
        assert verdict.status == 401
        delays.append(verdict.delay)
        now += verdict.delay
    assert delays == [0, 0.25, 0.5, 1, 2, 4, 5, 5, 5]


@given(st.lists(st.floats(0, 10), max_size=200))
def test_the_right_credentials_get_in_at_once_whoever_guesses_from_the_same_address(pauses: list[float]) -> None:
    guard, now = auth(), 0.0
    for pause in pauses:
        now += pause
        guard.check(WRONG, "10.0.0.1", now)
        assert guard.check(RIGHT, "10.0.0.1", now) == LoginResult(200)


def test_the_right_credentials_neither_shorten_nor_lengthen_the_wait_of_wrong_ones() -> None:
    plain, mixed = auth(), auth()
    for _ in range(30):
        mixed.check(RIGHT, "10.0.0.1", 0.0)
        assert mixed.check(WRONG, "10.0.0.1", 0.0) == plain.check(WRONG, "10.0.0.1", 0.0)


def test_another_address_does_not_wait() -> None:
    guard = auth()
    for _ in range(10):
        guard.check(WRONG, "10.0.0.1", 0.0)
    assert guard.check(RIGHT, "10.0.0.2", 0.0) == LoginResult(200)


def test_guesses_side_by_side_line_up_and_are_then_turned_away() -> None:
    guard = auth()
    verdicts = [guard.check(WRONG, "10.0.0.1", 0.0) for _ in range(50)]
    assert [v.delay for v in verdicts[:5]] == [0, 0.25, 0.75, 1.75, 3.75]
    assert {v.status for v in verdicts[5:]} == {429}
    assert verdicts[-1].retry_after == 8


def test_who_is_turned_away_waits_as_long_as_was_said() -> None:
    guard = auth()
    refused = [guard.check(WRONG, "10.0.0.1", 0.0) for _ in range(50)][-1]
    assert guard.check(WRONG, "10.0.0.1", float(refused.retry_after)) == LoginResult(401)


def test_an_ipv6_address_is_its_network() -> None:
    guard = auth()
    verdicts = [guard.check(WRONG, f"2001:db8:0:1::{i:x}", 0.0) for i in range(1, 50)]
    assert len(guard) == 1
    assert verdicts[-1].status == 429
    assert guard.check(RIGHT, "2001:db8:0:2::1", 0.0) == LoginResult(200)


def test_wrong_attempts_are_forgotten_one_by_one() -> None:
    guard, now = auth(), 0.0
    for _ in range(6):
        now += guard.check(WRONG, "10.0.0.1", now).delay
    later = now + 4 * basic_auth.FORGETTING
    assert guard.check(WRONG, "10.0.0.1", later).delay == 0
    assert guard.check(WRONG, "10.0.0.1", later).delay == basic_auth.delay_after(3)
    gone = later + 4 * basic_auth.FORGETTING
    assert guard.check(WRONG, "10.0.0.1", gone) == LoginResult(401)


def test_many_addresses_neither_fill_the_memory_nor_hold_many_connections() -> None:
    guard = auth()
    held = []
    for i in range(2 * basic_auth.MAX_ADDRESSES):
        remote = f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"
        guard.check(WRONG, remote, 0.0)
        held.append(guard.check(WRONG, remote, 0.0))
    assert len(guard) == basic_auth.MAX_ADDRESSES
    assert guard.held(0.0) == basic_auth.MAX_HELD
    assert [v.status for v in held].count(401) == basic_auth.MAX_HELD
    assert guard.check(RIGHT, "192.0.2.1", 0.0) == LoginResult(200)
    assert guard.held(1.0) == 0


attempts = st.lists(st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.booleans(), st.floats(0, 40)), max_size=80)


@given(attempts)
def test_however_attempts_come_wrong_ones_are_answered_at_a_bounded_rate(given: list[tuple[str, bool, float]]) -> None:
    guard, now, answered = auth(), 0.0, dict[str, list[float]]()
    for remote, right, pause in given:
        now += pause
        verdict = guard.check(RIGHT if right else WRONG, remote, now)
        assert verdict.status in ((200,) if right else (401, 429))
        assert 0 <= verdict.delay <= basic_auth.LONGEST + 0.5
        if verdict.status == 401:
            answered.setdefault(remote, []).append(now + verdict.delay)
    for times in answered.values():
        for (first, second), n in zip(itertools.pairwise(times), range(1, len(times)), strict=True):
            forgotten = int((now - times[0]) / basic_auth.FORGETTING)
            assert second - first >= basic_auth.delay_after(n - forgotten) - 1e-6


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"]
)
def test_the_known_password_is_good_enough_where_nobody_else_gets_to(host: str) -> None:
    check_credentials(configuration.load({"WEIR_HOST": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "2001:db8::1", "localhost.example", "weir", "1"])
def test_the_known_password_is_refused_where_others_reach_it(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="WEIR_BROADCAST_PASSWORD") as caught:
        check_credentials(configuration.load({"WEIR_HOST": host, "WEIR_BROADCAST_USER": "another"}))
    assert "\n" not in str(caught.value)
    check_credentials(configuration.load({"WEIR_HOST": host, "WEIR_BROADCAST_PASSWORD": "hunter2"}))


@pytest.mark.parametrize(("variable", "value"), [("USER", "a:b"), ("USER", "a\nb"), ("PASSWORD", "a\x00b")])
def test_credentials_that_no_client_can_send_are_refused(variable: str, value: str) -> None:
    config = configuration.load({}).replace(**{f"WEIR_BROADCAST_{variable}": value})
    with pytest.raises(ConfigError, match=f"WEIR_BROADCAST_{variable}"):
        check_credentials(config)
