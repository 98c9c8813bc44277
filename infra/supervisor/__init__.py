"""Starts processes, restarts them, and ends them. `service` starts a service's process, `child` keeps it alive, `logs`
rotates what it prints; `launch` is the shim that a process begins as.
"""
