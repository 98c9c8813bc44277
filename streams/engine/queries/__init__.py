"""Interactive queries: a job's state asked over HTTP."""
