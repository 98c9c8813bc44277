"""`weir run monitoring`: clients' events in, and what is known of clients out, under one port."""

from __future__ import annotations

import asyncio
import gc
import sys

from aiohttp import web

from consumers.client_view import ClientView
from consumers.clients_api import ClientsApi
from infra.cli.view_service import ViewService
from infra.config import Config
from infra.interpreter import SWITCH_S
from producers.ingest import MONITORING, Ingest

#: After so many more keys, all that is held is left out of the search for cycles: what holds clients' data is none, and
#: to look through a million keys takes a second in which nobody is answered.
_KEYS = 20_000
#: How often the keys are counted, in seconds.
_COUNT = 1.0


async def serve(config: Config) -> None:
    """Serves `POST /events`, `GET /clients` and `GET /health` until cancelled.

    Raises PortTakenError, and WeirError where nothing can be written or read any more.
    """
    sys.setswitchinterval(SWITCH_S)
    view = ClientView(config)
    ingest = Ingest(config, MONITORING, check=view.check_kind)
    service = ViewService(config, "monitoring", config.monitoring_port, ingest, view, "clients", view.facts)
    routes = [*ClientsApi(view).routes(), web.get("/health", service.health)]
    await service.run(routes, [lambda: _freeze(view)], view.close)


async def _freeze(view: ClientView) -> None:
    """Keeps the collector from looking through what is held."""
    keys = -_KEYS
    while True:
        held = view.facts()["keys"]
        keys = min(keys, held)  # it may have begun anew
        if held >= keys + _KEYS:
            keys = held
            gc.freeze()
        await asyncio.sleep(_COUNT)
