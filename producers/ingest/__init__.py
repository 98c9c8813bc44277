"""Events in over HTTP and WebSocket."""
