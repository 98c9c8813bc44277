"""Broadcast to subscribers."""
