"""The platform: configuration, Kafka, Postgres, HTTP, WebSockets, embedded servers, logs, supervision.

`runtime` is what every process has; `prometheus` declares what is scraped.
"""
