"""Accepted connections, whatever is spoken over them: how many there may be, which make way, and accepting itself."""
