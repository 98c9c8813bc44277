"""The engine: event-time windows counted exactly once, inside Faust, at the speed of librdkafka.

The pure part (no I/O, no clock of its own; tested without a broker): `core`, `aggregates`, `state`, `input`, `windowed`
and `keyed`. The edge: `progress` (how far a job is, and what it waits for), `dataplane` (reads, processes, commits),
`queries`, `admin`, and `worker`, which alone knows Faust. docs/explanation/engine.md holds the invariants.
"""
