"""How the documentation is built: ``make docs``. The source folder is the whole repository, so that a link between
README.md, docs/ and notebooks/ is the same one here and on a code host."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # advisor, for the reference of its functions

project = "draft-advisor"
author = "the draft-advisor contributors"
root_doc = "docs/index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = ["*.md", "docs/**", "notebooks/**"]
exclude_patterns = [".*", "build", "dist", "**/__pycache__"]

myst_heading_anchors = 3
myst_links_external_new_tab = True
suppress_warnings = ["myst.header"]  # a README may begin as its code host shows it best
nb_execution_mode = "off"  # they are run by the tests; the committed outputs are shown

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has them

html_theme = "furo"
html_title = "draft-advisor"
html_copy_source = False
