"""Checks of answers: each prints one line, "1.2 right: ..." or "1.2 not yet: ...".

An answer that is wrong, of another type or still ``...`` never raises; it is told what to look at.
What raises is a check that could not tell right from wrong, because what it expects is not finite.

All checks take the number of the exercise (with a letter where it has several: "1.2a"), the answer,
what to hold it against, and the lesson: one line that is printed when the answer is right.
``remarks`` are answers that are often given and wrong: pairs of such a value, or of a function that
recognises it, and what to say to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cobe.core.errors import CobeError

Remarks = Sequence[tuple[Any, str]]

NO_ANSWER = "no answer so far; replace the ... in the cell above"
_results: dict[str, bool] = {}


def equal(number: str, value, expected, lesson: str, *, remarks: Remarks = ()) -> None:
    """The answer is exactly this: a whole number, a truth value, a text, or a collection of them.

    A list, tuple or array is compared in order, a set without order; 5.0 is as good as 5, and True
    is not as good as 1.

    Parameters
    ----------
    number : str
        Number of the exercise, "1.2" or "1.2a".
    value : object
        The answer.
    expected : int, bool, str, set, or array or sequence of them
        What is right.
    lesson : str
        What to say when the answer is right.
    remarks : sequence of (value or callable, str)
        Wrong answers that have a remark of their own.

    Raises
    ------
    CobeError
        `number` is no number of an exercise, or `expected` is NaN.
    """
    _finite(number, expected)
    _judge(number, value, lesson, lambda v: _unequal(v, expected), _unequal, remarks)


def close(
    number: str,
    value,
    expected,
    lesson: str,
    *,
    rtol: float = 1e-3,
    atol: float = 0.0,
    remarks: Remarks = (),
) -> None:
    """The answer is this number, or this array, up to a tolerance.

    Parameters
    ----------
    number, value, lesson, remarks
        As for `equal`.
    expected : float, or array of float
        What is right; an answer must have its shape.
    rtol, atol : float
        Right is ``abs(value - expected) <= atol + rtol * abs(expected)``, everywhere.

    Raises
    ------
    CobeError
        `number` is no number of an exercise, or `expected` is not finite.
    """
    _finite(number, expected)

    def far(value, wanted):
        return _far(value, wanted, rtol, atol)

    _judge(number, value, lesson, lambda v: far(v, expected), far, remarks)


def between(
    number: str,
    value,
    lesson: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    remarks: Remarks = (),
) -> None:
    """The answer is one number from `low` to `high`, both included.

    Parameters
    ----------
    number, value, lesson, remarks
        As for `equal`; a value among the remarks is recognised within one in a thousand.
    low, high : float
        Borders; at least one is finite.

    Raises
    ------
    CobeError
        `number` is no number of an exercise, or nothing lies between the borders.
    """
    if not low <= high or (np.isinf(low) and np.isinf(high)):
        raise CobeError(f"check {number}: no border, or none between {low} and {high}; correct it")

    def outside(value):
        if wrong := _no_numbers(value, ()):
            return wrong
        given = float(_numbers(value))
        return "" if low <= given <= high else f"too {'small' if given < low else 'large'}"

    _judge(number, value, lesson, outside, _far, remarks)


def one_of(
    number: str, value, choices: Sequence[str], right: str, lesson: str, *, remarks: Remarks = ()
) -> None:
    """The answer is one of these texts; capitals and spaces around it do not matter.

    Parameters
    ----------
    number, value, lesson, remarks
        As for `equal`.
    choices : sequence of str
        All that may be answered.
    right : str
        Which of them is right.

    Raises
    ------
    CobeError
        `number` is no number of an exercise, or `right` is not among the choices.
    """
    if right not in choices:
        raise CobeError(f"check {number}: {right!r} is not among its choices; correct it")

    def not_chosen(value, wanted=right):
        named = value.strip().lower() if isinstance(value, str) else None
        if named not in [choice.lower() for choice in choices]:
            return "choose one of " + ", ".join(repr(choice) for choice in choices)
        return "" if named == wanted.lower() else "another one is right"

    _judge(number, value, lesson, not_chosen, not_chosen, remarks)


def holds(
    number: str, value, statement: Callable[[Any], bool], lesson: str, *, remarks: Remarks = ()
) -> None:
    """What the statement says of the answer is true; for answers that can be right in many ways.

    Parameters
    ----------
    number, value, lesson, remarks
        As for `equal`; remarks are recognised by functions.
    statement : callable
        Takes the answer, gives a truth value. An answer that it cannot take is not right.

    Raises
    ------
    CobeError
        `number` is no number of an exercise.
    """

    def fails(value):
        found = statement(value)
        if not isinstance(found, bool | np.bool_):
            return f"the answer is a {_kind(value)}, which cannot be judged; see the cell above"
        return "" if found else "the check does not hold for it"

    _judge(number, value, lesson, fails, _unequal, remarks)


def results() -> dict[str, bool]:
    """Exercises checked so far, and whether every check of theirs was right the last time."""
    found: dict[str, bool] = {}
    for number, right in _results.items():
        exercise = number.rstrip("abcdefghijklmnopqrstuvwxyz")
        found[exercise] = found.get(exercise, True) and right
    return found


def summary() -> None:
    """Print how many of the exercises that were checked are right, and which are not yet."""
    found = results()
    print(f"{sum(found.values())} of {len(found)} exercises right")
    if waiting := [number for number, right in found.items() if not right]:
        print("not yet:", ", ".join(waiting))


def reset() -> None:
    """Forget all that was checked."""
    _results.clear()


def _judge(number: str, value, lesson: str, wrong, same, remarks: Remarks) -> None:
    """Print and count one check; ``wrong(value)`` says what is wrong, "" if nothing is."""
    if not re.fullmatch(r"\d+\.\d+[a-z]?", number):
        raise CobeError(f"check {number!r}: no number of an exercise; give it as '1.2' or '1.2a'")
    if _unset(value):
        said = NO_ANSWER
    else:
        try:
            said = wrong(value)
        except Exception as error:  # any object may be an answer, and none may stop the notebook
            reason = " ".join(str(error).split())
            said = f"the answer is a {_kind(value)}, which cannot be judged ({reason})"
        said = said and (_remark(value, same, remarks) or said)
    _results[number] = not said
    print(f"{number} not yet: {said}" if said else f"{number} right: {lesson}")


def _remark(value, same, remarks: Remarks) -> str:
    for known, text in remarks:
        try:
            if known(value) if callable(known) else not same(value, known):
                return text
        except Exception:  # a remark on answers of another kind is none on this one
            continue
    return ""


def _unset(value) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        return any(item is ... for item in value)
    return value is ... or value is None


def _finite(number: str, expected) -> None:
    array = np.asarray(list(expected) if isinstance(expected, set) else expected)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CobeError(
            f"check {number}: what it expects is not finite, so no answer can be right; a result "
            "that it is computed from is missing or damaged"
        )


def _kind(value) -> str:
    return type(value).__name__


def _numbers(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    return np.asarray(array.tolist()) if array.dtype == object else array


def _no_numbers(value, shape: tuple) -> str:
    array = _numbers(value)
    if array.dtype.kind not in "iuf":
        wanted = "one number" if shape == () else "an array of numbers"
        return f"the answer is a {_kind(value)}; give {wanted}"
    if array.shape != shape:
        wanted = "one number" if shape == () else f"shape {shape}"
        return f"the answer has shape {array.shape}; wanted is {wanted}"
    if np.isnan(array).any():
        return "the answer is NaN" if shape == () else f"{np.isnan(array).sum()} entries are NaN"
    return ""


def _far(value, expected, rtol: float = 1e-3, atol: float = 0.0) -> str:
    wanted = np.asarray(expected, np.float64)
    if wrong := _no_numbers(value, wanted.shape):
        return wrong
    given = _numbers(value).astype(np.float64)
    off = ~(np.abs(given - wanted) <= atol + rtol * np.abs(wanted))
    return _where(given, wanted, off)


def _where(given: np.ndarray, wanted: np.ndarray, off: np.ndarray) -> str:
    """What to say of entries that are off: too small, too large, or where the first one is."""
    if not off.any():
        return ""
    if given.ndim == 0:
        return "too small" if given < wanted else "too large"
    first = ", ".join(map(str, np.argwhere(off)[0]))
    return f"{int(off.sum())} of {off.size} entries are off; the first at index {first}"


def _unequal(value, expected) -> str:
    if isinstance(expected, set):
        return _other_set(value, expected)
    wanted = np.asarray(expected)
    if wanted.dtype.kind in "iuf":
        wrong = _no_numbers(value, wanted.shape)
        given = _numbers(value)
        return wrong or _where(given, wanted, given != wanted)
    given = _numbers(value)
    names = {"b": "True or False", "U": "a text"}
    if given.dtype.kind != wanted.dtype.kind:
        wanted_kind = names.get(wanted.dtype.kind, _kind(expected))
        return f"the answer is a {_kind(value)}; wanted is {wanted_kind}"
    if given.shape != wanted.shape:
        return f"the answer has shape {given.shape}; wanted is shape {wanted.shape}"
    off = given != wanted
    if not off.any():
        return ""
    return "it is the other way" if wanted.dtype.kind == "b" and off.ndim == 0 else "something else"


def _other_set(value, expected: set) -> str:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return f"the answer is a {_kind(value)}; give a set"
    given = {item.item() if isinstance(item, np.generic) else item for item in value}
    missing, extra = len(expected - given), len(given - expected)
    return f"{missing} missing and {extra} too many" if missing or extra else ""
