"""Events in over HTTP and WebSocket: `routes` takes a request, `body` splits it into events, `validation` checks each,
`writer` sends it to Kafka.
"""
