"""Calls between children, and what the links job and its sink make of them."""
