"""The query API: one process for all that is asked."""
