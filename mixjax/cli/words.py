"""Words as people write them -> values: 7B, 1.5T, 7,000,000,000, 10%, a,b,c, NAME=VALUE; for the
command line and for files alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

T = TypeVar("T")
Read = Callable[[str], T]

_TIMES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
# A comma between names, not one within a number: 7,000,000.
_BETWEEN = re.compile(r",(?!\d{3}(?:[,.]|$))")


# --- One word ------------------------------------------------------------------------------------


def _float(text: str) -> float:
    """A finite number, NaN where the word is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else math.nan


def _large(text: str) -> float:
    """A number that may be large: 7e9, 7B (K, M, B and T are thousands to trillions) or
    7,000,000,000; NaN where the word is none."""
    word = text.strip()
    times = _TIMES.get(word[-1:].upper(), 1.0)
    word = word if times == 1.0 else word[:-1]
    return _float(word.replace(",", "") if _THOUSANDS.fullmatch(word) else word) * times


def number(text: str) -> float:
    """A finite number.

    Raises:
        ValueError: what is wrong with the word; so of all readers here.
    """
    if math.isnan(value := _float(text)):
        raise ValueError(f"{text!r} is not a number")
    return value


def amount(text: str) -> float:
    """A number of at least 0 that may be large, e.g. 7B."""
    if not (value := _large(text)) >= 0:
        raise ValueError(f"{text!r} is not a number of at least 0")
    return value


def count(text: str) -> float:
    """A number above 0 that may be large."""
    if not (value := _large(text)) > 0:
        raise ValueError(f"{text!r} is not a positive number")
    return value


def number_or_text(text: str) -> float | str:
    """A number where the word is one."""
    value = _float(text)
    return text if math.isnan(value) else value


def share(text: str) -> float:
    """A share: 0.1 or 10%."""
    return number(text.removesuffix("%")) / 100 if text.endswith("%") else number(text)


def part(text: str) -> float:
    """A share of at most 1."""
    if (value := share(text)) > 1:
        raise ValueError(f"{text!r} is above 1; is it {text}%?")
    return value


def positive_share(text: str) -> float:
    """A share above 0."""
    if not (value := share(text)) > 0:
        raise ValueError(f"{text!r} is not a positive number")
    return value


def loss_limit(text: str) -> tuple[float, bool]:
    """1%, so far above a reference, or 2.3, a loss: the number and whether it is relative."""
    return share(text), text.endswith("%")


def whole(text: str) -> int:
    """A whole number of at least 0; 1e3 is one."""
    value = number(text)
    if value != int(value) or value < 0:
        raise ValueError(f"{text!r} is not a whole number of at least 0")
    return int(value)


def scale(text: str) -> tuple[float, float]:
    """N:D, parameters and tokens of a run."""
    first, colon, second = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is not N:D")
    return count(first), count(second)


# --- Lists and pairs -----------------------------------------------------------------------------


def distinct(words: Sequence[str], text: str) -> tuple[str, ...]:
    """These words, none of them empty or there twice; text: where they come from."""
    if not all(words):
        raise ValueError(f"{text!r} has an empty name")
    repeated = next((word for word in words if words.count(word) > 1), None)
    if repeated is not None:
        raise ValueError(f"{repeated!r} is named twice")
    return tuple(words)


def names(text: str, between: str = ",") -> tuple[str, ...]:
    """a,b,c: distinct names."""
    return distinct([word.strip() for word in text.split(between)], text)


def joined(text: str) -> tuple[str, ...]:
    """a+b+c: names of a group."""
    return names(text, "+")


def among(*known: str) -> Read[tuple[str, ...]]:
    """Reads distinct names out of some."""

    def convert(text: str) -> tuple[str, ...]:
        given = names(text)
        other = next((name for name in given if name not in known), None)
        if other is not None:
            raise ValueError(f"{other!r} is none of {', '.join(known)}")
        return given

    return convert


def listed(read: Read[T], plural: str) -> Read[tuple[T, ...]]:
    """Reads a,b,c with a reader of one; plural: what they are, for the message."""

    def convert(text: str) -> tuple[T, ...]:
        try:
            return tuple(read(word.strip()) for word in text.split(","))
        except ValueError as error:
            raise ValueError(f"{text!r} is not a list of {plural}: {error}") from None

    return convert


def pairs(read: Read[T], form: str = "NAME=NUMBER") -> Read[dict[str, T]]:
    """Reads a=1,b=2 with a reader of what stands after the =; form: what a pair looks like."""

    def convert(text: str) -> dict[str, T]:
        values: list[dict[str, T]] = []
        for part in _BETWEEN.split(text):
            name, equals, word = (piece.strip() for piece in part.partition("="))
            if not (name and equals and word):
                raise ValueError(f"{part.strip()!r} is not {form}")
            try:
                values.append({name: read(word)})
            except ValueError as error:
                raise ValueError(f"{part.strip()!r} is not {form}: {error}") from None
        return merged(values)

    return convert


def columns(text: str) -> dict[str, float | str]:
    """h=weight_{},N=params_M*1e6,D=1e10: a column for each; N and D may be numbers."""
    named = pairs(str, "WHAT=COLUMN")(text)
    return {w: number_or_text(c) if w in ("N", "D") else c for w, c in named.items()}


def merged(parts: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """Mappings as one; each name in one of them only."""
    values: dict[str, T] = {}
    for part in parts:
        repeated = next((name for name in part if name in values), None)
        if repeated is not None:
            raise ValueError(f"{repeated!r} is given twice; give it once")
        values |= part
    return values


def number_or_pairs(text: str) -> float | dict[str, float]:
    """4, or web=2,code=1."""
    return pairs(count)(text) if "=" in text else count(text)


# --- For click -----------------------------------------------------------------------------------


class As(click.ParamType):
    """A word converted by a reader; what it refuses is told with an example; form: its place in the
    help."""

    name = "word"

    def __init__(self, read: Read[Any], example: str, form: str = "X") -> None:
        self.read, self.example, self.form = read, example, form

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What help shows in the place of the word."""
        return self.form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or click's complaint about the option."""
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(f"{error}; write for example {self.example}", param, ctx)


def together(ctx: click.Context, param: click.Parameter, value: Sequence[Any]) -> Any:
    """Callback of a repeatable option of pairs: one dict, None where it was not given."""
    try:
        return merged(value) or None
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
