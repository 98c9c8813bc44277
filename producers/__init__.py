"""The way in: a feed client, WebSocket and HTTP endpoints, simulators. World to topics."""
