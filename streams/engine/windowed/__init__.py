"""Windowed jobs: pre-aggregation, merging, closing."""
