"""What travels: a typed struct per message, the one list of topics, codecs, example messages.

This package imports nothing else of weir's: every other package may depend on it.
"""
