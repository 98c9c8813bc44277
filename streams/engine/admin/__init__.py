"""Resets and explains jobs, from outside."""
