"""Broadcast to subscribers: reads the topic, catches up who is behind, fans out. What a slow one has still to get waits
in `infra.websocket.send_queue`, up to WEIR_BROADCAST_QUEUE; `infra.websocket.connection` cuts who exceeds that.
"""
