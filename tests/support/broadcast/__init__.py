"""Listeners, broadcasters, senders and subscribers of the tests' own."""
