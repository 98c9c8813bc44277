"""Message formats: a typed struct per message, the registry of topics, codecs, example messages.

This package imports nothing else of weir's: every other package may depend on it.
"""
