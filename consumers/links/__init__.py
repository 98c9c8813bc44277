"""Counts per pair: tables, queries and routes."""
