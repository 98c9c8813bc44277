"""Clients of weir's own broadcast: sending and subscribing."""
