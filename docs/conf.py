"""Sphinx settings of the site; `cobe.site.build` gathers its sources and calls Sphinx."""

from sphinx.domains.python import PyObject

project = "cobe"
author = "The cobe developers"
copyright = "The cobe developers, MIT licence"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

# notebooks are shown as they were committed, and nothing comes from another host
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_number_source_lines = False

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types, shapes and units stand in the text
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "set"}  # which matplotlib adds to its subclasses
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "cobe"
html_static_path = ["_static"]
html_extra_path = ["../files"]  # gathered: what is handed on unchanged
html_css_files = ["cobe.css"]
html_js_files = ["search_offline.js", "brain.js"]
html_domain_indices = False  # the reference lists the modules by room
html_copy_source = False
html_show_sourcelink = False
html_permalinks_icon = "#"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#235a86",
        "color-brand-content": "#235a86",
        "color-brand-visited": "#5d4580",
    },
    "dark_css_variables": {
        "color-brand-primary": "#8fc1e8",
        "color-brand-content": "#8fc1e8",
        "color-brand-visited": "#c3aee0",
    },
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def setup(app):
    """Leave the types of parameters as text: a bare name such as Run is in more than one room."""
    for field in PyObject.doc_field_types:
        if hasattr(field, "typerolename"):
            field.typerolename = ""
