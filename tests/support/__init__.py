"""The helpers that tests share: real servers, events and their expected results, clients."""
