"""The way out: reporter, Postgres sinks, views. Topics to world."""
