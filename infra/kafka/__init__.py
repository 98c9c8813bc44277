"""Kafka: clients, topics, errors, and readers and writers of partitions. `topic_reader` and `writer` are the tools'."""
