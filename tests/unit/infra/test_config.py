"""Settings: where they come from, what is refused, what is hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from weir.cli.main import app
from weir.infra.config import Config, describe, load
from weir.infra.config.secrets import shown
from weir.infra.config.settings import duration_ms, duration_text, settings_of
from weir.infra.errors import ConfigError


def test_without_any_variable_everything_has_its_default() -> None:
    config = load({"PATH": "/bin"})
    assert (config.kafka.port, config.postgres.port, config.api.port) == (9092, 5433, 8000)
    assert config.kafka.bootstrap == "127.0.0.1:9092"
    assert config.postgres.embedded == "postgresql://weir@127.0.0.1:5433/weir"
    assert config.home == Path.cwd() / ".weir"


def test_a_port_base_moves_every_port_but_those_that_are_set() -> None:
    config = load({"WEIR_PORT_BASE": "31000", "WEIR_API_PORT": "80"})
    moved = [value for declared, value in settings_of(config) if declared.above is not None]
    assert sorted(moved) == [80, 31000, 31001, 31002, *range(31004, 31010)]
    assert (config.port("kafka"), config.port("metrics"), config.port("api")) == (31000, 31009, 80)


def test_a_password_is_not_shown() -> None:
    assert {s.value for s in describe({"WEIR_BROADCAST_PASSWORD": "tell"}) if s.variable.endswith("PASSWORD")} == {
        "***"
    }
    assert load({"WEIR_BROADCAST_PASSWORD": "tell"}).broadcast.password == "tell"


def test_origins_are_as_a_browser_writes_them() -> None:
    assert load({"WEIR_BROADCAST_ORIGINS": "HTTPS://a.example, http://b:81"}).broadcast.origins == (
        "https://a.example,http://b:81"
    )
    with pytest.raises(ConfigError, match="WEIR_BROADCAST_ORIGINS"):
        load({"WEIR_BROADCAST_ORIGINS": "a.example"})


def test_servers_that_exist_are_used_instead_of_the_embedded_ones() -> None:
    config = load({"WEIR_KAFKA": "a:1,b:2", "WEIR_POSTGRES": "postgresql://h/d"})
    assert (config.kafka.bootstrap, config.dsn) == ("a:1,b:2", "postgresql://h/d")


def test_the_embedded_postgres_is_found_with_the_file_that_holds_its_password_whatever_the_home_is_called() -> None:
    config = load({"WEIR_HOME": "/a b/ü?&=:%/home", "WEIR_POSTGRES_PORT": "6000"})
    assert conninfo_to_dict(config.dsn) == {
        "user": "weir", "host": "127.0.0.1", "port": "6000", "dbname": "weir", "passfile": "/a b/ü?&=:%/home/pgpass",
        "require_auth": "scram-sha-256",
    }  # fmt: skip


def test_a_variable_that_is_set_to_nothing_is_not_set() -> None:
    assert load({"WEIR_KAFKA": "", "WEIR_PARTITIONS": ""}) == load({})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEIR_PARTITONS", "4"),
        ("WEIR_partitions", "4"),
        ("WEIR_PARTITIONS", "0"),
        ("WEIR_PARTITIONS", "four"),
        ("WEIR_KAFKA_PORT", "65536"),
        ("WEIR_LINKS_GRACE", "5"),
        ("WEIR_LINKS_WINDOW", "0s"),
        ("WEIR_BROADCAST_IDLE", "0s"),
        ("WEIR_BROADCAST_IDLE", "99ms"),
        ("WEIR_LOG_LEVEL", "loud"),
        ("WEIR_TOPIC_PREFIX", "a b"),
        ("WEIR_MAX_SKEW", "11m"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({variable: value})
    assert variable in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_described_with_its_source_as_it_would_be_written() -> None:
    described = {s.variable: s for s in describe({"WEIR_LINKS_GRACE": "90s", "WEIR_PORT_BASE": "31000"})}
    assert len(described) == len(list(settings_of(Config())))  # no variable twice
    assert (described["WEIR_LINKS_GRACE"].value, described["WEIR_LINKS_GRACE"].source) == ("90s", "environment")
    assert (described["WEIR_API_PORT"].value, described["WEIR_API_PORT"].source) == ("31003", "WEIR_PORT_BASE")
    assert (described["WEIR_MAX_SKEW"].value, described["WEIR_MAX_SKEW"].source) == ("5m", "default")
    assert all(setting.doc for setting in described.values())


def test_what_is_described_can_be_read_back() -> None:
    described = describe({"WEIR_LINKS_RETENTION": "6m", "WEIR_PARTITIONS": "7"})
    written = {s.variable: s.value for s in described if s.value != "***"}
    assert load(written) == load({"WEIR_LINKS_RETENTION": "6m", "WEIR_PARTITIONS": "7"})


@pytest.mark.parametrize("variable", ["WEIR_POSTGRES", "WEIR_FEED_URL"])
def test_a_password_is_never_shown(variable: str) -> None:
    [setting] = [s for s in describe({variable: "ws://me:hunter2@h:1/d"}) if s.variable == variable]
    assert setting.value == "ws://me:***@h:1/d"


def test_a_copy_with_another_value_is_made_by_variable() -> None:
    config = Config().replace(WEIR_LINKS_GRACE=7, WEIR_HOST="::")
    assert (config.links.grace, config.host, config.kafka) == (7, "::", Config().kafka)
    with pytest.raises(TypeError, match="WEIR_LINKS_GRAEC"):
        config.replace(WEIR_LINKS_GRAEC=7)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_survives_being_written(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


def test_weir_config_prints_every_setting() -> None:
    result = CliRunner().invoke(app, ["config", "--json"], env={"WEIR_PARTITIONS": "9"})
    settings = {s["variable"]: s for s in json.loads(result.output)}
    assert settings["WEIR_PARTITIONS"]["value"] == "9"
    assert "WEIR_PARTITIONS" in CliRunner().invoke(app, ["config"]).output


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"WEIR_FEED_URL": "http://x"}, "must be ws://host:port"),
        ({"WEIR_FEED_URL": "ws://"}, "must be ws://host:port"),
        ({"WEIR_KAFKA": "nocolon"}, "must be host:port"),
        ({"WEIR_KAFKA": "a:1,host:abc"}, "must be host:port"),
        ({"WEIR_PARTITIONS": "many"}, "must be a whole number"),
        ({"WEIR_PARTITIONS": "٤"}, "must be a whole number"),
        ({"WEIR_LINKS_GRACE": "٤s"}, "write a duration as"),
        ({"WEIR_KAFKA": "h:٤"}, "must be host:port"),
        ({"WEIR_TOPIC_PREFIX": ".."}, "the first of them no '.'"),
        ({"WEIR_TOPIC_PREFIX": ".a-"}, "the first of them no '.'"),
        ({"WEIR_TOPIC_PREFIX": "a" * 125}, "at most 124"),
        ({"WEIR_KAFKA_PORT": "9999", "WEIR_API_PORT": "9999"}, "WEIR_API_PORT"),
        (
            {"WEIR_PORT_BASE": "26100", "WEIR_KAFKA_PORT": "26102"},
            "WEIR_KAFKA_PORT and WEIR_POSTGRES_PORT are both 26102",
        ),
        ({"WEIR_LINKS_RETENTION": "7d"}, "must not exceed 6d"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_before_anything_starts(environ: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load(environ)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://h/db?user=u&password=sekret",
        "postgresql://u:p@sekret@h/db",
        "host=h password=sekret",
        "host=h password='sekret word'",
        "host=h password=a\\ sekret",
        "host=h password='a\\'sekret'",
        "host=h password='no end sekret",
        "postgresql://h:p?sekret@h/db",
        "postgresql://h:p#sekret@h/db",
        "wss://h/x?token=sekret",
        "wss://h/x?token=a@sekret",
        "wss://h/x?sekret",
        "wss://h/x?a=b#sekret",
        "wss://sekret@h/x",
    ],
)
def test_no_form_of_an_address_shows_its_secret(address: str) -> None:
    assert "sekret" not in shown(address)
    assert "***" in shown(address)
