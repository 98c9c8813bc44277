"""The one place that holds weir's version."""

VERSION = "0.1.0"
