"""The listener: broadcast messages in over WebSocket."""
