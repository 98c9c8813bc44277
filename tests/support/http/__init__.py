"""HTTP services and clients of the tests' own."""
