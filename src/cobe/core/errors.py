"""The errors that cobe raises: for bad input, and for what the machine lacks."""


class CobeError(Exception):
    """Bad input or a missing thing: the message names it, says what is wrong and what to do.

    The message is one line, in the form ``what: problem; remedy``.
    """


class MachineError(CobeError):
    """Room, memory or a permission is lacking, or the code was changed: the input is not at fault.

    Whoever leaves out what cannot be read must not leave out what could not be done: the same
    input would give another result on another machine.
    """


def short_of_memory(what: str) -> MachineError:
    """The error of a job that needs more memory than is free; `what` names it."""
    return MachineError(
        f"{what}; free memory, or use fewer processes (COBE_WORKERS=1), "
        "and run the same command again"
    )
