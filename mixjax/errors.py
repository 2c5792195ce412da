"""The one exception a user meets (any step): where it went wrong, what is wrong, how to mend it."""

from __future__ import annotations

import warnings


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
