"""A process: its lifecycle, status, threads and waiting."""
