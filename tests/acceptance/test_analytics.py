"""The README's tenant: an event goes in through Kafka, and its day comes out over HTTP."""

from __future__ import annotations

import json
import urllib.request
from contextlib import ExitStack

from command import started
from readme import run, shell_blocks


def test_an_event_of_a_tenant_is_in_its_day(environ: dict[str, str]) -> None:
    [block] = shell_blocks("Tenants' analytics")
    add, send, ask = block.splitlines()
    command, url = ask.rsplit(" ", 1)
    assert command == "curl -s"
    url = url.strip("'").replace("8000", environ["WEIR_API_PORT"])

    def days() -> list[dict[str, object]]:
        with urllib.request.urlopen(url) as answer:
            found: list[dict[str, object]] = json.load(answer)["days"]
            return found

    with ExitStack() as stack:
        services = [stack.enter_context(started(environ, "run", name)) for name in ("analytics-store", "api")]
        run(add, environ)
        assert run(send, environ) == b"accepted 1, refused 0\n"
        services[1].wait_for_error_line(b"api.running")
        services[0].wait_for(lambda: days() != [])
        [day] = days()
        assert {name: day[name] for name in ("tenant_id", "day", "events", "avg")} == {
            "tenant_id": 7,
            "day": "2026-01-31",
            "events": 1,
            "avg": 12.5,
        }
        assert [service.interrupt() for service in services] == [0, 0]
