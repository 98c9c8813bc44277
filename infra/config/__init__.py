"""Configuration: read once, from the environment (`WEIR_*`), into one frozen object whose sections are passed in.

Every setting is one field in the file of its component's section (`sections/`), with its variable, default, parser and
documentation. `weir config` prints all of them with their sources. An unknown `WEIR_` variable, or a value that cannot
be used, raises `ConfigError`. A new section also takes a line in `Config`.
"""

from weir.infra.config.config import Config as Config
from weir.infra.config.loader import describe as describe
from weir.infra.config.loader import load as load
