"""The one error that cobe raises for bad input."""


class CobeError(Exception):
    """Bad input or a missing thing: the message names it, says what is wrong and what to do.

    The message is one line, in the form ``what: problem; remedy``.
    """
