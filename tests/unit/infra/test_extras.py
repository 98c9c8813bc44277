"""An installation without an extra says what is missing and how to install it, wherever the extra is needed."""

from __future__ import annotations
