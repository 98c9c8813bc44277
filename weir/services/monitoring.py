"""`weir run monitoring`: clients' events in, and what is known of clients out, under one port."""

from __future__ import annotations

import asyncio
import gc
import sys

from weir.consumers.monitoring.routes import ClientsApi
from weir.consumers.monitoring.view import TOPICS, ClientView
from weir.infra.config import Config
from weir.infra.runtime.interpreter import SWITCH_S
from weir.infra.runtime.lifecycle import BackgroundWork
from weir.producers.ingest.server import MONITORING, Ingest
from weir.services import view as view_service
from weir.services.chains import chain_to

#: After so many new keys, all that is held is left out of the search for cycles: what holds clients' data is none, and
#: to look through a million keys takes a second in which nobody is answered.
_KEYS = 20_000
#: How often the keys are counted, in seconds.
_COUNT = 1.0


async def serve(config: Config) -> None:
    """Serves `POST /events`, `GET /clients` and `GET /health` until cancelled.

    Raises PortTakenError, and WeirError where nothing can be written or read any more.
    """
    sys.setswitchinterval(SWITCH_S)
    view = ClientView(config, chain_to(config, TOPICS))
    ingest = Ingest(config, MONITORING, check=view.check_kind, positions=view.progress)
    routes, port = ClientsApi(view).routes(), config.monitoring.port
    await view_service.serve(
        config, "monitoring", port, ingest, view, routes, "clients", view.facts, BackgroundWork(lambda: _freeze(view))
    )  # fmt: skip


async def _freeze(view: ClientView) -> None:
    """Keeps the collector from looking through what is held."""
    keys = -_KEYS
    while True:
        facts = view.facts()
        made = facts["keys"] + facts["forgotten"]
        keys = min(keys, made)  # it may have begun anew
        if made >= keys + _KEYS:
            keys = made
            gc.freeze()
        await asyncio.sleep(_COUNT)
