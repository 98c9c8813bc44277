"""The framework of views: a topic's records in memory."""
