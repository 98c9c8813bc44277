"""The engine: event-time windows counted exactly once, inside Faust, at the speed of librdkafka.

The pure part (no I/O, no clock of its own; tested without a broker): `records`, `windows`, `watermarks`, `partials`,
`combine` (stage one), `merge` (stage two), `job`. The edge: `transactions`, `task`, `dataplane`, `membership`, `app`.
docs/explanation/engine.md holds the file map and the invariants.
"""
