"""Plays monitored clients, and checks what came of their events."""
