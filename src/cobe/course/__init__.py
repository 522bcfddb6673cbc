"""Exercises: student and solution versions from one source, and the checks of answers."""
