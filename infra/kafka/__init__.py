"""Kafka: clients, topics, errors, readers and writers. `partition_reader` reads partitions from given offsets on, for
everybody; `topic_reader` and `writer` are the tools'.
"""
