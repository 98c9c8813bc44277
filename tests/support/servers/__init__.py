"""Servers of a test's own, to be killed, filled up and started again."""
