"""Tenants' analytics: tables, queries and routes."""
