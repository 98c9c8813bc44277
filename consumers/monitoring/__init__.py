"""Monitored clients: view and routes."""
