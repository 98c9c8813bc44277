"""Faults in a row, from a seed, while jobs work: what comes out equals the truth."""
