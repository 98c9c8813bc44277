"""Reads, processes and commits: one transaction per flush."""
