"""Small jobs of the tests' own, and data planes that run them."""
