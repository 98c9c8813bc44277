"""Tenants, their events, and what Postgres and the archive hold of them."""
