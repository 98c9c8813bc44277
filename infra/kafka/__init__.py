"""Kafka: clients, topics, errors, readers and writers."""
