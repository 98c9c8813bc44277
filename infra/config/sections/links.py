"""Settings of the links job."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, duration_ms
from weir.infra.errors import ConfigError


@dataclass(frozen=True)
class LinksConfig(Section):
    """The links job's windows and transactions."""

    window: int = duration("WEIR_LINKS_WINDOW", "60s", "length of the links job's tumbling window", "1ms")
    grace: int = duration("WEIR_LINKS_GRACE", "5s", "how long after its end a window waits for late events")
    retention: int = duration(
        "WEIR_LINKS_RETENTION", "10m",
        "how far behind the latest an event may be and still count; windows are kept that long after their end",
    )  # fmt: skip
    linger: int = duration(
        "WEIR_LINKS_LINGER", "200ms", "pace of transactions under load: a part of it apart, longer while behind"
    )

    def check(self) -> None:
        """Raises ConfigError if open windows would be forgotten, or state could not be restored."""
        if self.retention < self.window + self.grace:
            raise ConfigError(
                "WEIR_LINKS_RETENTION must not be shorter than WEIR_LINKS_WINDOW and WEIR_LINKS_GRACE together: "
                "events of an open window would be late"
            )
        if self.retention > duration_ms("6d"):
            raise ConfigError(
                "WEIR_LINKS_RETENTION must not exceed 6d: link-counts, which state is restored from, keeps 7"
            )
