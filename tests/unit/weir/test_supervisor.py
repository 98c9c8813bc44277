"""When a service that died is started again, and which services there are: no process is started here."""

from __future__ import annotations

import itertools

import pytest

from weir.infra.config import load
from weir.infra.errors import ConfigError
from weir.infra.runtime.backoff import Backoff
from weir.infra.supervisor import supervisor
from weir.infra.supervisor.restarts import RestartPolicy
from weir.services.registry import services, wanted


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lives(policy: RestartPolicy, clock: Clock, *seconds: float) -> list[float]:
    """The delays after lives of these lengths, one after the other."""
    delays = []
    for length in seconds:
        policy.started()
        clock.now += length
        delays.append(policy.died())
    return delays


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy(clock: Clock) -> RestartPolicy:
    return RestartPolicy(clock, Backoff(first=1.0, cap=8.0, jitter=lambda: 1.0), healthy=60.0)


def test_the_delay_doubles_up_to_its_limit_while_a_service_keeps_dying(policy: RestartPolicy, clock: Clock) -> None:
    assert lives(policy, clock, 1, 1, 1, 1, 1) == [1, 2, 4, 8, 8]


def test_a_healthy_minute_makes_the_delay_short_again(policy: RestartPolicy, clock: Clock) -> None:
    assert lives(policy, clock, 1, 1, 59.9, 60, 1) == [1, 2, 4, 1, 2]


def test_the_time_between_death_and_start_is_no_life(policy: RestartPolicy, clock: Clock) -> None:
    policy.started()
    first = policy.died()
    clock.now += 3600
    policy.started()
    assert [first, policy.died()] == [1, 2]


def test_deaths_are_counted(policy: RestartPolicy, clock: Clock) -> None:
    lives(policy, clock, 1, 100, 1)
    assert policy.deaths == 3


def test_jitter_takes_up_to_half_of_the_delay() -> None:
    jitter = itertools.cycle([0.0, 1.0])
    backoff = Backoff(first=4.0, cap=4.0, jitter=lambda: next(jitter))
    assert [backoff.next(), backoff.next()] == [2.0, 4.0]


BY_DEFAULT = [
    "worker-links", "worker-metrics", "worker-monitoring-ids", "worker-monitoring", "link-store", "metric-store",
    "analytics-store", "api", "broadcast", "monitoring", "metrics",
]  # fmt: skip


def test_by_default_the_embedded_servers_and_every_service_run() -> None:
    assert wanted(load({})) == ["kafka", "postgres", *BY_DEFAULT]


def test_a_server_that_exists_is_not_started() -> None:
    assert wanted(load({"WEIR_KAFKA": "h:1", "WEIR_POSTGRES": "postgresql://h/d"})) == BY_DEFAULT


def test_a_feed_runs_where_there_is_one() -> None:
    config = load({"WEIR_FEED_URL": "ws://h:1/feed"})
    [feed] = [service for service in services() if service.name == "feed"]
    assert "feed" in wanted(config)
    assert feed.command(config) == ("feed", "connect")


def test_only_some_can_be_run_servers_first() -> None:
    assert wanted(load({}), "api, kafka") == ["kafka", "api"]


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("kafka", "WEIR_KAFKA is set"),
        ("feed", "WEIR_FEED_URL is not set"),
        ("apis", "unknown service"),
    ],
)
def test_a_name_that_cannot_be_run_is_refused(only: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        wanted(load({"WEIR_KAFKA": "h:1"}), only)


@pytest.mark.parametrize("only", ["", " ", ","])
def test_only_nothing_says_what_there_is(only: str) -> None:
    with pytest.raises(ConfigError, match="--only names no service; available: kafka, postgres, worker-links"):
        wanted(load({}), only)


def test_what_does_not_end_is_killed_before_five_seconds_are_over() -> None:
    assert supervisor.SERVICES_END_S + supervisor.SERVERS_END_S < 5
