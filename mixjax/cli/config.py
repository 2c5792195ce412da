"""Config file -> plain keyword arguments, checked: unknown keys, wrong types and missing files are
told with their line."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mixjax.errors import UserError, nearest

DEMO = "builtin:demo"
_LARGEST = 256 * 1024  # bytes; a config is a page of text
_DEEPEST = 5


@dataclass(frozen=True)
class Config:
    """What a config asks for.

    Attributes:
        path: of the config, as it was named.
        data, eval_data: files of runs to fit and to score, or (DEMO,); those of one tuple are
            joined on `read["on"]`.
        read: `where`, `columns` and `on` of `read_runs`.
        eval_where: which rows to score beside the fitted ones.
        law: name, or FILE.py:NAME.
        fit: keyword arguments of `fit`: targets, starts, hops, delta, residual, seed.
        mixes: keyword arguments of `optimal_mixture`, one mapping for each mixture sought.
        compare: laws to compare.
        lines: {key: line where it stands}.
    """

    path: str
    data: tuple[str, ...]
    law: str
    eval_data: tuple[str, ...] = ()
    read: Mapping[str, Any] = field(default_factory=dict)
    eval_where: str | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    mixes: tuple[Mapping[str, Any], ...] = ()
    compare: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    def place(self, name: str, otherwise: str = "") -> str:
        """The file and the line where a key, or the law of that name, stands; of another key where
        it is nowhere."""
        key = "law" if name == self.law else "compare" if name in self.compare else name
        line = self.lines.get(key) or self.lines.get(otherwise)
        return f"{self.path}, line {line}" if line else self.path


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read and check a config; relative paths in it start at its folder.

    Raises:
        UserError: with file, line and the nearest key.
    """
    name = str(path)
    root = _compose(name, _text(name))
    if root is None:
        raise UserError(name, "is empty", "write at least `data: FILE` and `law: NAME`")
    values = _mapping(root, name, _KEYS, "the config")
    for key in ("data", "law"):
        if values.get(key) is None:
            raise UserError(name, f"no key {key!r}", f"add a line `{key}: ...`")
    folder = Path(name).parent
    law = values["law"]
    return Config(
        path=name,
        data=_from(folder, values["data"]),
        law=str(folder / law) if law.rpartition(":")[0].endswith(".py") else law,
        eval_data=_from(folder, values.get("eval_data") or ()),
        read={
            key: values.get(key)
            for key in ("where", "columns", "on")
            if values.get(key) is not None
        },
        eval_where=values.get("eval_where"),
        fit={
            key: values[key]
            for key in ("targets", "starts", "hops", "delta", "residual", "seed")
            if values.get(key) is not None
        },
        mixes=values.get("mix") or (),
        compare=values.get("compare") or (),
        lines=_lines(root),
    )


def _lines(root: yaml.Node) -> dict[str, int]:
    """Where each key stands, those of inner mappings too; the first of a name."""
    found: dict[str, int] = {}
    for key, value in (
        root.value
        if isinstance(root, yaml.MappingNode)
        else [(None, item) for item in root.value]
        if isinstance(root, yaml.SequenceNode)
        else []
    ):
        if key is not None:
            found.setdefault(str(key.value), key.start_mark.line + 1)
        for name, line in _lines(value).items():
            found.setdefault(name, line)
    return found


def find_data(files: Sequence[str], replacement: str | None = None) -> tuple[str, ...]:
    """Where the files of a config are: as named, in the folder `replacement`, or in the folder
    MIXJAX_DATA.

    Args:
        files: as in `Config.data`.
        replacement: a file in place of a single one, or the folder where files of these names are.

    Raises:
        UserError: a file is nowhere, or a replacement does not fit.
    """
    if replacement is not None and not Path(replacement).exists():
        raise UserError(
            "--data",
            f"no file or folder {replacement!r}",
            "name the file, or the folder that holds the files of the config",
        )
    if replacement is not None and not Path(replacement).is_dir():
        if len(files) > 1:
            raise UserError(
                "--data",
                f"{replacement!r} is one file, the config names {len(files)}",
                "name the folder that holds them",
            )
        return (replacement,)
    return tuple(name if name == DEMO else _found(name, replacement) for name in files)


def _found(name: str, folder: str | None) -> str:
    elsewhere = [folder] if folder else [os.environ.get("MIXJAX_DATA", "")]
    places = [] if folder else [Path(name)]
    places += [Path(place) / Path(name).name for place in elsewhere if place]
    for place in places:
        if place.is_file():
            return str(place)
    nowhere = "no such file" + (f", nor in {elsewhere[0]!r}" if elsewhere[0] else "")
    raise UserError(
        name, nowhere, "pass --data PATH, or set MIXJAX_DATA to the folder that holds it"
    )


def _from(folder: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Paths seen from where the command runs."""
    return tuple(
        name if name == DEMO else os.path.normpath(folder / Path(name).expanduser())
        for name in files
    )


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(
                path, f"is larger than {_LARGEST // 1024} KiB", "name a config, not a table"
            )
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(
            path, f"cannot be read ({error.strerror})", "name a config file, see configs/ of mixjax"
        ) from None
    except UnicodeDecodeError:
        raise UserError(path, "is not text in UTF-8", "name a config file") from None


def _compose(path: str, text: str) -> yaml.Node | None:
    """The YAML nodes with their lines: nothing is constructed, no alias is followed, no tag is
    obeyed."""
    try:
        _check_events(path, text)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}" if mark else path
        raise UserError(
            place,
            f"is not YAML ({error.problem})",
            "mend the line; quote text that begins with { or [",
        ) from None
    except yaml.YAMLError as error:
        raise UserError(
            path, f"is not YAML ({str(error).splitlines()[0]})", "name a config file"
        ) from None


def _check_events(path: str, text: str) -> None:
    """Refuse what a config has no use for and could do harm: aliases, tags, deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = f"{path}, line {event.start_mark.line + 1}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if isinstance(event, yaml.AliasEvent):
            raise UserError(place, f"alias *{event.anchor}", "write the value out")
        if getattr(event, "tag", None) is not None:
            raise UserError(place, f"tag {event.tag!r}", "leave it out")
        if depth > _DEEPEST:
            raise UserError(place, "is nested too deeply", "a config has at most four levels")


# --- Readers: one node of the file -> one value --------------------------------------------------

Reader = Callable[[yaml.Node, str, str], Any]


def _refuse(node: yaml.Node, path: str, key: str, wanted: str) -> UserError:
    found = (
        repr(node.value)
        if isinstance(node, yaml.ScalarNode)
        else ("a list" if isinstance(node, yaml.SequenceNode) else "a mapping")
    )
    return UserError(
        f"{path}, line {node.start_mark.line + 1}", f"{key} is {found}", f"give {wanted}"
    )


def _mapping(
    node: yaml.Node, path: str, readers: Mapping[str, Reader] | Reader, what: str
) -> dict[str, Any]:
    """{key: value}; readers: by key, or one for keys of any name."""
    if not isinstance(node, yaml.MappingNode):
        raise _refuse(node, path, what, "lines of the form `key: value`")
    values: dict[str, Any] = {}
    for key_node, value in node.value:
        place = f"{path}, line {key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(place, "a key is not a word", "write `key: value`")
        key = str(key_node.value)
        if key in values:
            raise UserError(place, f"key {key!r} is there twice", "keep one of them")
        if not callable(readers) and key not in readers:
            raise UserError(
                place,
                f"unknown key {key!r}",
                nearest(key, readers) + f"keys of {what}: {', '.join(readers)}",
            )
        reader = readers if callable(readers) else readers[key]
        values[key] = None if _is_empty(value) else reader(value, path, key)
    return values


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _word(node: yaml.Node, path: str, key: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or not str(node.value).strip():
        raise _refuse(node, path, key, "one line of text")
    return str(node.value)


def _words(node: yaml.Node, path: str, key: str) -> tuple[str, ...]:
    """A list, or a, b, c in one line."""
    if isinstance(node, yaml.SequenceNode) and node.value:
        words = tuple(_word(item, path, key) for item in node.value)
    elif isinstance(node, yaml.ScalarNode) and key not in ("data", "eval_data"):
        words = tuple(word.strip() for word in str(node.value).split(","))
    elif isinstance(node, yaml.ScalarNode):
        words = (_word(node, path, key),)
    else:
        raise _refuse(node, path, key, "a name or a list of names")
    place = f"{path}, line {node.start_mark.line + 1}"
    if not all(words):
        raise UserError(place, f"{key} has an empty name", "write a, b, c or a list")
    repeated = next((w for w in words if words.count(w) > 1), None)
    if repeated is not None:
        raise UserError(place, f"{key} has {repeated!r} twice", "name each once")
    return words


def _number(node: yaml.Node, path: str, key: str, wanted: str = "a number") -> float:
    """A finite number; 7e9 and 1.5e11 are numbers here, which YAML 1.1 takes for words."""
    try:
        number = float(node.value) if isinstance(node, yaml.ScalarNode) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _refuse(node, path, key, wanted)
    return number


def _positive(node: yaml.Node, path: str, key: str) -> float:
    number = _number(node, path, key, "a number above 0")
    if number <= 0:
        raise _refuse(node, path, key, "a number above 0")
    return number


def _whole(node: yaml.Node, path: str, key: str) -> int:
    number = _number(node, path, key, "a whole number of at least 0")
    if number != int(number) or number < 0:
        raise _refuse(node, path, key, "a whole number of at least 0")
    return int(number)


def _residual(node: yaml.Node, path: str, key: str) -> str:
    word = _word(node, path, key)
    if word not in ("loss", "log"):
        raise _refuse(node, path, key, "loss or log")
    return word


def _numbers(node: yaml.Node, path: str, key: str) -> dict[str, float] | None:
    return {
        name: number
        for name, number in _mapping(node, path, _number, key).items()
        if number is not None
    } or None


def _columns(node: yaml.Node, path: str, key: str) -> dict[str, Any]:
    """As `read_runs` takes them: a column, a pattern or a number, or a mapping."""
    return {
        name: value
        for name, value in _mapping(node, path, _column, key).items()
        if value is not None
    }


def _column(node: yaml.Node, path: str, key: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        readers = {"column": _word, "times": _positive} if key in ("N", "D") else _word
        return _mapping(node, path, readers, key)
    word = _word(node, path, key)
    return number_or_word(word) if key in ("N", "D") else word


def number_or_word(word: str) -> float | str:
    """A number where the word is one: N and D may be the same for a whole table."""
    try:
        return float(word)
    except ValueError:
        return word


def _mixes(node: yaml.Node, path: str, key: str) -> tuple[dict[str, Any], ...]:
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return tuple(
        {k: v for k, v in _mapping(item, path, _MIX_KEYS, key).items() if v is not None}
        for item in items
    )


_MIX_KEYS: dict[str, Reader] = {
    "N": _positive,
    "D": _positive,
    "weights": _numbers,
    "caps": _numbers,
    "floors": _numbers,
}
_KEYS: dict[str, Reader] = {
    "data": _words,
    "eval_data": _words,
    "on": _words,
    "columns": _columns,
    "where": _word,
    "eval_where": _word,
    "law": _word,
    "targets": _words,
    "starts": _whole,
    "hops": _whole,
    "delta": _positive,
    "residual": _residual,
    "seed": _whole,
    "mix": _mixes,
    "compare": _words,
}
