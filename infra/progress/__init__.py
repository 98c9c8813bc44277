"""How far an answer is behind what was accepted, and positions to wait for."""
