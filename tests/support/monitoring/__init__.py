"""Events of monitored clients, and what must come of them."""
