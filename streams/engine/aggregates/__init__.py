"""Aggregates: exact sums, sketches, and partials of them."""
