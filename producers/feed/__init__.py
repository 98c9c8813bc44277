"""The client of a foreign feed: its messages to topics, counts back."""
