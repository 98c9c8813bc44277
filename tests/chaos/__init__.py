"""Faults in a row, from a seed, while the links job counts: the counts equal the truth."""
