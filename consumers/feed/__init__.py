"""Counts back over the feed's socket."""
