"""Reads the configuration from the environment, and describes each setting with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weir.infra.config.config import Config
from weir.infra.config.secrets import shown
from weir.infra.config.settings import Declared, settings_of
from weir.infra.errors import ConfigError


@dataclass(frozen=True)
class Setting:
    """One variable as `weir config` shows it. `value` is hidden where it is a secret."""

    variable: str
    value: str
    source: str
    doc: str


def load(environ: Mapping[str, str]) -> Config:
    """Returns the configuration in `environ`. Raises ConfigError, with one line that names the variable."""
    return _read(environ)[0]


def describe(environ: Mapping[str, str]) -> list[Setting]:
    """Lists every setting with its value and where that came from: `environment`, `WEIR_PORT_BASE` or `default`."""
    config, sources = _read(environ)
    return [
        Setting(declared.variable, _written(declared, value), sources[declared.variable], declared.doc)
        for declared, value in settings_of(config)
    ]


def _written(declared: Declared, value: Any) -> str:
    """The value as it would be written in the environment, without its secrets."""
    if value is None:
        return ""
    text = declared.write(value)
    return shown(text) if declared.secret else text


def _read(environ: Mapping[str, str]) -> tuple[Config, dict[str, str]]:
    known = {declared.variable: declared for declared, _ in settings_of(Config())}
    given = {
        variable: _parsed(variable, known.get(variable), text)
        for variable, text in sorted(environ.items())
        if variable.startswith("WEIR_") and (text or variable not in known)
    }
    sources = dict.fromkeys(known, "default") | dict.fromkeys(given, "environment")
    if base := given.get("WEIR_PORT_BASE"):
        for variable, declared in known.items():
            if declared.above is not None and variable not in given:
                given[variable], sources[variable] = base + declared.above, "WEIR_PORT_BASE"
    config = Config().replace(**given)
    config.check()
    return config, sources


def _parsed(variable: str, declared: Declared | None, text: str) -> Any:
    if declared is None:
        raise ConfigError(f"unknown setting {variable}; `weir config` lists all settings")
    try:
        return declared.parse(text)
    except ValueError as e:
        value = "" if declared.secret else f"={text!r}"
        raise ConfigError(f"{variable}{value} cannot be used: {e}") from e
