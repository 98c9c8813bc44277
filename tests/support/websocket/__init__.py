"""WebSocket servers and clients of the tests' own."""
