"""Input of a job: decodes and validates a source, and sets dead letters aside."""
