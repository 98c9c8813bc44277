"""Dead letters read back: selecting, showing and replaying them. `schemas.dead_letters` has their format."""
