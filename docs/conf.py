"""The documentation: Markdown by MyST; reference pages are made from the code by `docs/_ext/weir_reference.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from weir.infra.version import VERSION

project = "weir"
copyright = "the weir contributors"
release = version = VERSION

extensions = ["myst_parser", "sphinx_copybutton", "weir_reference"]
exclude_patterns = ["_ext", "adr/0000-template.md"]
nitpicky = True
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"weir {VERSION}"
html_copy_source = False
copybutton_prompt_text = "$ "
