"""The jobs: one file each, and the registry."""
