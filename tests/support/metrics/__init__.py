"""Metric events and aggregates."""
