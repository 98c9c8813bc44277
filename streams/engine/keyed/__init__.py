"""Keyed jobs: repartition, state and timers per key."""
