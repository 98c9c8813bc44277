"""Optional dependencies of weir, installed on request: `pip install 'weir[archive]'`."""

from __future__ import annotations

from importlib import import_module

from weir.infra.errors import MissingExtraError

#: The modules of each extra of setup.cfg that a user may leave out.
EXTRAS = {"archive": ("pyarrow", "duckdb")}


def require(extra: str, purpose: str) -> None:
    """Returns where the extra is installed. Raises MissingExtraError with the purpose and how to install it."""
    try:
        for module in EXTRAS[extra]:
            import_module(module)
    except ModuleNotFoundError as e:
        raise MissingExtraError(
            f"{purpose} needs {e.name}, which is not installed: pip install 'weir[{extra}]' (in a clone: make setup)"
        ) from e
