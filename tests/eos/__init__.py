"""Kafka's own exactly-once system test, played against two keyed jobs of weir and judged by Kafka's own verifier.

`org.apache.kafka.streams.tests.EosTestDriver` is the program that Apache Kafka's system tests judge Kafka Streams with
(KIP-129, KIP-447). It reads six topics back and holds each record against the input: as many, in the same order, with
the right running minimum, sum, maximum and count per key, and no transaction left open.
"""
