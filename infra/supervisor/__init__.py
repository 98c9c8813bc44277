"""Starts processes, restarts them, and ends them."""
