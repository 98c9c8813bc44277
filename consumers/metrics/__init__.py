"""Metric aggregates: tables, view and routes."""
