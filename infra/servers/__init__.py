"""Servers that weir starts itself: Apache Kafka and PostgreSQL."""
