"""A process: its status, threads and waiting. `lifecycle` opens, runs and closes the parts of a service; each service
gives them, in the order in which they are closed, to `ServiceLifecycle.run`.
"""
