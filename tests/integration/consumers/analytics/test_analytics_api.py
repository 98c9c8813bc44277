"""Tenants' events over HTTP: pages, files, what is refused, and what is said when Postgres is away."""

from __future__ import annotations

import csv
import datetime as dt
import http.client
import io
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from support.command import started
from support.servers.own_servers import own
from support.tenants.tenant_rows import DAYS, FIRST, LAST, Made, Tables
from support.wait import PATIENCE_S, until
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer

RANGE = {"from": FIRST.isoformat(), "to": LAST.isoformat()}
TIMES = {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}
PATHS = ("/analytics/daily", *(f"/analytics/tenants/3/{name}" for name in ("daily", "events", "summary")))


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks the API of one test."""

    def __init__(self, config: Config) -> None:
        self._port = config.api.port

    def get(self, path: str, accept: str | None = None, **parameters: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
            connection.request("GET", path + query, headers={"Accept": accept} if accept else {})
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()

    def pages(self, path: str, field: str, **parameters: str) -> list[Any]:
        """Returns the entries of every page, following the links of the answers."""
        found = []
        answer = self.get(path, **parameters)
        while True:
            assert answer.status == 200, answer
            found += answer.json[field]
            assert ("next" in answer.json) == ("Link" in answer.headers)
            if "next" not in answer.json:
                return found
            link = answer.headers["Link"]
            assert link.endswith('; rel="next"')
            answer = self.get(link[1 : link.index(">")])


@pytest.fixture
def tables(config: Config) -> Iterator[Tables]:
    made = Tables(config)
    for number in range(1, 6):
        made.tenant(number, "enterprise" if number % 2 else "free")
    made.store(
        *(
            Made(tenant, day, 250 * n, 1000 * n, "ab"[n % 2])
            for tenant in range(1, 5)
            for day in DAYS
            for n in range(4)
        ),
        Made(5, DAYS[0], 0, 1, "=cmd|' /C calc'!A0", '{"text": "a \\"b\\", c\\r\\nd"}'),
    )
    yield made
    made.close()


@pytest.fixture
def api(environ: dict[str, str], config: Config, tables: Tables) -> Iterator[Client]:
    with started(environ, "run", "api") as service:
        service.wait_for_error_line(b"api.running")
        yield Client(config)


def test_pages_of_days_of_a_plan(api: Client, tables: Tables) -> None:
    for limit in ("1", "5", "1000"):
        rows = api.pages("/analytics/daily", "days", plan="enterprise", limit=limit, **RANGE)
        found = [(row["tenant_id"], row["day"], row["events"]) for row in rows]
        assert found == [(tenant, day.isoformat(), n) for tenant, day, n in tables.expected("enterprise")]
    figures = {"sum": 6.0, "avg": 1.5, "min": 0.0, "max": 3.0, "p50": 1.0, "p95": 3.0, "p99": 3.0}
    assert rows[0] == {"tenant_id": 1, "day": DAYS[-1].isoformat(), "events": 4, **figures}
    short = api.get("/analytics/daily", percentiles="false", **RANGE).json["days"][0]
    assert short == {"tenant_id": 1, "day": DAYS[-1].isoformat(), "events": 4} | {
        name: figures[name] for name in ("sum", "avg", "min", "max")
    }
    assert api.get("/analytics/daily", plan="nobody", **RANGE).json == {"days": []}


def test_one_tenant(api: Client, tables: Tables) -> None:
    rows = api.pages("/analytics/tenants/3/daily", "days", limit="2", **RANGE)
    assert [(row["tenant_id"], row["day"]) for row in rows] == [(3, day.isoformat()) for day in reversed(DAYS)]
    events = api.pages("/analytics/tenants/3/events", "events", limit="5", **TIMES)
    assert len(events) == 24
    places = [(dt.datetime.fromisoformat(event["created_at"]), event["id"]) for event in events]
    assert places == sorted(places)
    assert events[1] == {"tenant_id": 3, "created_at": "2026-01-29T00:00:00.250Z", "id": events[1]["id"],
                         "processing_time": 1.0, "event_type": "b", "payload": None}  # fmt: skip
    assert len(api.pages("/analytics/tenants/3/events", "events", type="a", **TIMES)) == 12
    total = api.get("/analytics/tenants/3/summary", **RANGE).json
    assert total == {"tenant_id": 3, **RANGE, "events": 24, "sum": 36.0, "avg": 1.5, "min": 0.0, "max": 3.0,
                     "p50": 1.0, "p95": 3.0, "p99": 3.0}  # fmt: skip


@pytest.mark.parametrize(
    "accept", [None, "text/csv", "application/vnd.apache.parquet"], ids=["param", "csv", "parquet"]
)
def test_a_file_has_the_rows_of_all_pages(api: Client, tables: Tables, accept: str | None) -> None:
    for path, field, times in (
        ("/analytics/daily", "days", RANGE), ("/analytics/tenants/5/daily", "days", RANGE),
        ("/analytics/tenants/5/events", "events", TIMES), ("/analytics/tenants/3/events", "events", TIMES),
    ):  # fmt: skip
        wanted = api.pages(path, field, **times)
        for suffix in ("csv", "parquet") if accept is None else (accept.rsplit(".")[-1].rsplit("/")[-1],):
            named = {"format": suffix} if accept is None else {}
            answer = api.get(path, accept=accept, **named, **times)
            assert answer.status == 200
            assert answer.headers["Content-Disposition"].endswith(f'.{suffix}"')
            read = read_csv if suffix == "csv" else read_parquet
            assert read(answer.body) == [{name: plain(value) for name, value in row.items()} for row in wanted]


def plain(value: object) -> str:
    """As both files' values are compared: a payload by its JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else "" if value is None else str(value)


def read_csv(body: bytes) -> list[dict[str, str]]:
    text = body.decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert text.count("\r\n") >= len(rows) + 1
    for row in rows:
        for name, value in row.items():
            assert not value.startswith(("=", "+", "-", "@"))
            row[name] = value.removeprefix("'")
        if row.get("payload"):
            row["payload"] = plain(json.loads(row["payload"]))
    return rows


def read_parquet(body: bytes) -> list[dict[str, str]]:
    found = []
    for row in parquet.read_table(io.BytesIO(body)).to_pylist():
        if row.get("payload"):
            row["payload"] = json.loads(row["payload"])
        if "created_at" in row:
            moment = row["created_at"]
            exact = "milliseconds" if moment.microsecond else "seconds"
            row["created_at"] = moment.replace(tzinfo=None).isoformat(timespec=exact) + "Z"
        found.append({name: plain(value) for name, value in row.items()})
    return found


BAD = (
    ("/analytics/daily", {"plan": "'; DROP TABLE tenants; --"}, "plan"),
    ("/analytics/daily", {"plan": "a\0"}, "plan"),
    ("/analytics/daily", {"from": "2026-02-30"}, "from"),
    ("/analytics/daily", {"from": "2026-02-02", "to": "2026-02-01"}, "from"),
    ("/analytics/daily", {"to": "2026-02-01T00:00:00Z"}, "to"),
    ("/analytics/daily", {"limit": "10001"}, "limit"),
    ("/analytics/daily", {"limit": "1 OR 1=1"}, "limit"),
    ("/analytics/daily", {"after": "2026-01-31"}, "after"),
    ("/analytics/daily", {"after": "2026-01-31,0"}, "after"),
    ("/analytics/daily", {"after": "2026-01-31,7; SELECT"}, "after"),
    ("/analytics/daily", {"percentiles": "yes"}, "percentiles"),
    ("/analytics/daily", {"format": "xlsx"}, "format"),
    ("/analytics/daily", {"format": "csv", "limit": "5"}, "limit"),
    ("/analytics/daily", {"tenant_id": "7"}, "tenant_id"),
    ("/analytics/tenants/0/daily", {}, "tenant_id"),
    ("/analytics/tenants/7%20OR%201=1/daily", {}, "tenant_id"),
    ("/analytics/tenants/9223372036854775808/summary", {}, "tenant_id"),
    ("/analytics/tenants/3/daily", {"plan": "free"}, "plan"),
    ("/analytics/tenants/3/events", {"from": "yesterday"}, "from"),
    ("/analytics/tenants/3/events", {"type": "a\nb"}, "type"),
    ("/analytics/tenants/3/events", {"type": "a\0b"}, "type"),
    ("/analytics/tenants/3/events", {"after": "2026-01-31T12:00:00+01:00,7"}, "after"),
    ("/analytics/tenants/3/summary", {"limit": "5"}, "limit"),
)


def test_a_bad_parameter_is_a_400_with_the_field_and_the_reason(api: Client) -> None:
    for path, parameters, field in BAD:
        answer = api.get(path, **parameters)
        assert (answer.status, answer.json["error"]["field"]) == (400, field), (path, parameters)
        assert answer.json["error"]["reason"]


def test_what_is_unknown_or_cannot_be_written_as_asked(api: Client) -> None:
    for name in ("daily", "events", "summary"):
        answer = api.get(f"/analytics/tenants/77/{name}")
        assert (answer.status, answer.json) == (404, {"error": {"reason": "unknown tenant 77"}})
        assert api.get(f"/analytics/tenants/77/{name}", format="csv").status == 404
    assert api.get("/analytics/daily", accept="image/png").status == 406
    assert api.get("/analytics/daily", accept="text/html, */*;q=0.1").headers["Content-Type"] == "application/json"
    assert api.get("/analytics/daily", **{"from": "0001-01-01", "to": "9999-12-31"}).status == 200
    assert api.get("/analytics/daily", after="9999-12-31,1").status == 200
    edges = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999Z"}
    assert len(api.get("/analytics/tenants/3/events", **edges).json["events"]) == 24


INJECTIONS = (
    "' OR '1'='1", "1; DROP TABLE events; --", "1) UNION SELECT id, plan FROM tenants --", "$1", "%s", "%(scope)s",
    "\\'; SET ROLE postgres; --", "1/**/OR/**/1=1", "*", "1,2,3", "{1,2}", "2026-01-31' OR true --", "\0", "\ud7ff",
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(PATHS),
    parameters=st.dictionaries(
        st.sampled_from(
            ["plan", "from", "to", "limit", "after", "type", "format", "percentiles", "tenant_id", "scope"]
        ),
        st.sampled_from(INJECTIONS) | st.text(max_size=20).filter(lambda text: text.isprintable()),
        max_size=4,
    ),
    number=st.none() | st.sampled_from(INJECTIONS),
)
def test_no_parameter_is_taken_for_sql(
    api: Client, tables: Tables, path: str, parameters: dict[str, str], number: str | None
) -> None:
    asked = path if number is None else path.replace("/3/", f"/{urllib.parse.quote(number, safe='')}/")
    answer = api.get(asked, **parameters)
    assert answer.status in (200, 400, 404), answer
    if answer.status == 200 and "/tenants/" in asked and answer.headers["Content-Type"] == "application/json":
        name = asked.rsplit("/", 1)[1]
        rows = [answer.json] if name == "summary" else answer.json["days" if name == "daily" else name]
        assert {row["tenant_id"] for row in rows} <= {3}
    assert tables.execute("SELECT count(*) FROM tenants") == [(5,)]


def test_postgres_away_is_a_503_and_over_when_it_is_back(environ: dict[str, str], config: Config) -> None:
    [port] = free_ports(1)
    mine = environ | {"WEIR_POSTGRES_PORT": str(port)}
    del mine["WEIR_POSTGRES"]
    its = config.replace(WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=port)
    with started(mine, "run", "api") as service:
        service.wait_for_error_line(b"api.running")
        client = Client(config)

        def away() -> bool:
            answers = [client.get(path) for path in ("/analytics/daily", "/analytics/tenants/3/events?format=csv")]
            for answer in answers:
                if answer.status == 503:
                    assert answer.headers["Retry-After"] == "5"
                    assert answer.json["error"]["reason"] == "Postgres cannot be asked right now"
            return [answer.status for answer in answers] == [503] * 2

        assert away()
        with own(PostgresServer(its)) as server:
            assert away()  # it is there, and has no tables yet
            postgres.migrate(its)
            until(lambda: client.get("/analytics/daily").json == {"days": []})
            server.kill()
            until(away)
            server.start()
            until(lambda: client.get("/analytics/daily").json == {"days": []})
