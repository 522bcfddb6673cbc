"""The static site: committed notebooks, figures, ledger and docstrings as pages, offline."""
