"""Widgets over saved results, each with a figure in its place where there are no widgets."""
