"""Plays what is on the other side: a feed, clients."""
