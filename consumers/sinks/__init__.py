"""The framework of sinks: a topic's records into tables, each once."""
