"""Plays a feed, and checks what comes back."""
