"""The Postman collection against the code: every endpoint that weir has is in it, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weir.infra.config import load
from weir.producers.ingest.server import METRICS, MONITORING
from weir.services.broadcast import ROUTES

ROOT = Path(__file__).parents[3]
COLLECTION: dict[str, Any] = json.loads((ROOT / "docs/postman/weir.postman_collection.json").read_text())
VARIABLES: dict[str, str] = {variable["key"]: variable["value"] for variable in COLLECTION["variable"]}
#: Which port the HTTP routes of each file are on.
SERVERS = {
    "consumers/api/server.py": "api",
    "consumers/links/routes.py": "api",
    "consumers/api/table_proxy.py": "api",
    "consumers/analytics/routes.py": "api",
    "streams/engine/queries/server.py": "worker",
    "producers/simulators/feed/server.py": "feed",
    "consumers/monitoring/routes.py": "monitoring",
    "consumers/metrics/routes.py": "metrics",
}
#: Routes of a file that several ports have.
SHARED = {"weir/services/view.py": ("monitoring", "metrics")}
#: What takes events in, on which port, and where its routes are made: their paths are the intakes' own.
INTAKES = {"monitoring": MONITORING, "metrics": METRICS}
INGEST = ("producers/ingest/routes.py", "producers/ingest/websocket.py")


def requests() -> Iterator[dict[str, Any]]:
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            yield item["request"]


def makes_route(function: ast.expr) -> bool:
    """Whether this is aiohttp's `add_get`, `add_route`, `web.get`, `web.route` or the like."""
    if not isinstance(function, ast.Attribute):
        return False
    of_web = isinstance(function.value, ast.Name) and function.value.id == "web"
    methods = ("get", "post", "put", "delete", "patch", "head", "view", "route")
    return function.attr in [f"add_{method}" for method in methods] or (of_web and function.attr in methods)


def declared() -> dict[str, set[str]]:
    """Every route in the code, by the port it is on: a regular expression where it has variable parts."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in ("producers", "streams", "consumers", "weir/services"):
        for path in (ROOT / package).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            if name in INGEST:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and makes_route(node.func):
                    [route] = [a.value for a in node.args if isinstance(a, ast.Constant) and str(a.value)[:1] == "/"]
                    for port in SHARED.get(name) or (SERVERS[name],):
                        found[port].add(re.sub(r"\{\w+:(.*?)\}", r"\1", str(route)))
    for port, intake in INTAKES.items():
        found[port] |= {path for path in (intake.path, intake.websocket) if path}
    for port, paths in ROUTES.items():
        found[port] |= {path for group in paths for path in group}
    return found


def test_its_paths_are_the_routes_of_the_code() -> None:
    routes = declared()
    listed: dict[str, set[str]] = defaultdict(set)
    for request in requests():
        port = request["url"]["port"].strip("{}").removesuffix("_port")
        path = "/" + "/".join(request["url"]["path"])
        matching = {route for route in routes[port] if re.fullmatch(route, path)}
        assert matching, f"{port} has no {path}"
        listed[port] |= matching
    assert listed == routes


def test_who_sends_says_who_it_is_and_nobody_else() -> None:
    sending = {(port, path) for port, (paths, _) in ROUTES.items() for path in paths}
    for request in requests():
        place = (request["url"]["port"].strip("{}").removesuffix("_port"), "/" + "/".join(request["url"]["path"]))
        assert ("auth" in request) == (place in sending), place


def test_its_variables_are_those_that_it_uses_with_weirs_defaults() -> None:
    text = json.dumps(COLLECTION["item"])
    assert set(re.findall(r"\{\{(\w+)\}\}", text)) == VARIABLES.keys()
    config = load({})
    for name, value in VARIABLES.items():
        if name.endswith("_port") and name != "worker_port":  # a worker takes any that is free
            assert value == str(config.port(name.removesuffix("_port")))
    assert (VARIABLES["user"], VARIABLES["password"]) == (config.broadcast.user, config.broadcast.password)


def test_an_address_says_the_same_as_its_parts() -> None:
    for request in requests():
        url = request["url"]
        enabled = "&".join(f"{q['key']}={q['value']}" for q in url.get("query", []) if not q.get("disabled"))
        whole = f"{url['protocol']}://{url['host'][0]}:{url['port']}/{'/'.join(url['path'])}"
        assert url["raw"] == whole + (f"?{enabled}" if enabled else "")


def test_the_file_says_that_it_is_of_format_2_1() -> None:
    assert COLLECTION["info"]["schema"].endswith("/collection/v2.1.0/collection.json")
