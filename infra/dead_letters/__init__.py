"""Dead letters: their format, and selecting, showing and replaying them."""
