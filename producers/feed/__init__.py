"""The client of a foreign feed: its messages to topics, counts back. `connection` keeps a connection open and connects
again, `link` is one connection, `client` makes records of what comes.
"""
