"""The one exception a user meets (any step): where it went wrong, what is wrong, how to mend it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input, told in one line.

    Args:
        where: the place: file, column, row, option or key.
        what: what is wrong there, with the offending value.
        remedy: what to change.
    """

    def __init__(self, where: str, what: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}; {remedy}")
        self.where, self.what, self.remedy = where, what, remedy


class MixjaxWarning(UserWarning):
    """Something in the input or the fit that a user should know and may well accept."""


def warn(where: str, what: str, remedy: str) -> None:
    """Issue a `MixjaxWarning` in the same shape as a `UserError`."""
    warnings.warn(f"{where}: {what}; {remedy}", MixjaxWarning, stacklevel=3)


def shown(value: object) -> str:
    """A value for a message, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, words: Iterable[object]) -> str:
    """The head of a remedy: "did you mean 'web'? " where a word is near, else nothing."""
    import difflib

    near = difflib.get_close_matches(str(word), [str(known) for known in words], n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def check_names(
    given: Iterable[str], names: Iterable[str], where: str, what: str | None = None
) -> None:
    """Refuse a name that is not one of the names, and offer the nearest.

    Args:
        where: the place that a message names.
        what: "target" or "domain"; by default as the place says.

    Raises:
        UserError: a name that is unknown.
    """
    names = list(names)
    for name in given:
        if name not in names:
            kind = what or ("target" if where == "weights" else "domain")
            remedy = f"{nearest(name, names)}choose from {', '.join(names)}"
            raise UserError(where, f"no {kind} {name!r}", remedy)
