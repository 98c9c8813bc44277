"""Events in over HTTP and WebSocket: `routes` reads a request, and refuses it by its headers and its size; `body`
splits it into events, `validation` checks each, `writer` sends it to Kafka.
"""
