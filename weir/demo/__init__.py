"""`weir demo`: a sample feed through the links pipeline, with a live table."""
