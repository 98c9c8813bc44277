"""`weir run broadcast`: listener and broadcaster as one process, and what is under which port then."""

from __future__ import annotations

from weir.consumers.broadcast.server import Broadcaster
from weir.infra.config import Config
from weir.infra.runtime.lifecycle import Facts, ServiceLifecycle
from weir.infra.websocket.service import WebSocketEndpoint
from weir.producers.broadcast.server import Listener

#: What is under each port (`Config.port`) of `weir run broadcast`: paths to send to, and paths to receive
#: from.
ROUTES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "listener": (("/websocket", "/ws/manager"), ("/ws/broadcast", "/ws/broadcaster")),
    "broadcaster": ((), ("/websocket", "/ws/broadcast", "/ws/broadcaster")),
    "broadcast": (("/ws/manager",), ("/ws/broadcast", "/ws/broadcaster")),
}


async def run(config: Config, name: str | None = None) -> None:
    """Serves the three ports of broadcast until cancelled.

    The listener ends first, so that what is written then is still handed out.
    """
    listener, broadcaster = Listener(config), Broadcaster(config)
    addresses = {port: f"ws://{config.host}:{config.port(port)}" for port in ("listener", "broadcaster")}

    def facts() -> Facts:
        taken, handed = listener.facts(), broadcaster.facts()
        return addresses | {
            "senders": taken["senders"],
            "taken": taken["messages"],
            "unacknowledged": taken["unacknowledged"],
            "subscribers": handed["subscribers"],
            "handed_out": handed["messages"],
        }

    routes = {
        config.port(port): [
            *(listener.routes(*sending) if sending else ()), *broadcaster.routes(*receiving)
        ]
        for port, (sending, receiving) in ROUTES.items()
    }  # fmt: skip
    port = config.broadcast.port
    lifecycle = ServiceLifecycle(
        config, "broadcast", facts=facts, name=name or f"broadcast-{port}", address=f"ws://{config.host}:{port}"
    )
    endpoint = WebSocketEndpoint(config, routes, lifecycle, broadcaster.close_reason)
    await lifecycle.run(listener, broadcaster, endpoint)
