"""The schema in Postgres, as numbered SQL files `NNNN_name.sql`; `weir.infra.postgres.migrate` applies them in order.

A file that was applied anywhere is never changed: what is to be different comes in a new one.
"""
