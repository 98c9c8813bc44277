"""Which of a broker's settings differ from what is declared, and which of these lose records."""

from __future__ import annotations

import pytest

from weir.infra.kafka.topic_settings import Difference, differences, losses, summary
from weir.schemas.topic import A_WEEK, EVENTS, FOR_EVER, RESULTS, STATE, Topic, declared

WEEK = A_WEEK["retention.ms"]
BROKER = {"cleanup.policy": "delete", "retention.ms": WEEK, "retention.bytes": "-1"}


def topic(config: dict[str, str]) -> Topic:
    return Topic("t", "", "", "", None, config=config)


def found(config: dict[str, str], broker: dict[str, str]) -> list[str]:
    return [one.setting for one in losses(topic(config), BROKER | broker)]


def test_the_order_of_policies_is_no_difference() -> None:
    assert differences(topic(RESULTS), declared(topic(RESULTS)) | {"cleanup.policy": "delete, compact"}) == []


def test_what_is_not_declared_is_the_brokers_to_say() -> None:
    assert differences(topic({}), BROKER | {"segment.ms": "1"}) == []


@pytest.mark.parametrize(
    ("config", "broker", "lost"),
    [
        (STATE, {"cleanup.policy": "compact"}, []),
        (STATE, {}, ["cleanup.policy"]),
        (STATE, {"cleanup.policy": "compact,delete"}, ["cleanup.policy"]),
        (STATE, {"cleanup.policy": "delete", "retention.ms": "-1"}, []),  # nothing is deleted, it only grows
        (RESULTS, {}, []),  # nothing that is still needed goes
        (RESULTS, {"retention.ms": "1000"}, ["retention.ms"]),
        (RESULTS, {"retention.bytes": "1000"}, ["retention.bytes"]),
        (RESULTS, {"cleanup.policy": "compact", "retention.ms": "1000"}, []),
        (FOR_EVER, {}, ["retention.ms"]),
        (FOR_EVER, {"retention.ms": "-1"}, []),
        (FOR_EVER, {"cleanup.policy": "compact"}, ["cleanup.policy"]),
        (EVENTS, {"retention.ms": "-1", "retention.bytes": "-1"}, []),  # more is kept than is declared
        (EVENTS, {"retention.ms": "-1", "retention.bytes": "1"}, ["retention.bytes"]),
        ({}, {"retention.ms": "1"}, []),
        (RESULTS, {"retention.ms": "", "retention.bytes": ""}, []),  # a broker that does not tell
    ],
)
def test_what_is_deleted_that_is_to_be_kept_is_a_loss(
    config: dict[str, str], broker: dict[str, str], lost: list[str]
) -> None:
    assert found(config, broker) == lost


def test_one_line_names_a_few_of_many() -> None:
    line = summary([Difference(f"t{n}", "retention.ms", "1", "2") for n in range(9)])
    assert line.count("retention.ms") == 4
    assert "and 5 more settings: `weir topics --update`" in line
