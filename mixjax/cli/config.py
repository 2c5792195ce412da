"""Files of wishes -> records, checked: configs and supplies. Unknown keys, wrong types and missing
files are told with their line."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mixjax.cli import words
from mixjax.errors import UserError, check_names, nearest

DEMO = "builtin:demo"
_LARGEST = 256 * 1024  # bytes; a config is a page of text
_DEEPEST = 5

# --- Readers: one node of a file -> one value ----------------------------------------------------

Reader = Callable[[yaml.Node, str, str], Any]  # node, path of the file, key


def _line(node: yaml.Node, path: str) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _refuse(node: yaml.Node, path: str, key: str, wanted: str) -> UserError:
    kinds = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    what = kinds.get(type(node)) or repr(node.value)
    return UserError(_line(node, path), f"{key} is {what}", f"give {wanted}")


def _one(read: words.Read[Any], wanted: str) -> Reader:
    """Reads one word."""

    def reader(node: yaml.Node, path: str, key: str) -> Any:
        try:
            if isinstance(node, yaml.ScalarNode):
                return read(str(node.value))
        except ValueError:
            pass
        raise _refuse(node, path, key, wanted)

    return reader


def _list(node: yaml.Node, path: str, key: str, between: str | None = None) -> tuple[str, ...]:
    """Distinct names: a list, or one line of them; between: what stands between them there, None
    where a line is one name."""
    if isinstance(node, yaml.SequenceNode) and node.value:
        names = [_TEXT(item, path, key) for item in node.value]
    elif isinstance(node, yaml.ScalarNode):
        names = str(node.value).split(between) if between else [_TEXT(node, path, key)]
    else:
        raise _refuse(node, path, key, "a name or a list of names")
    try:
        return words.distinct([name.strip() for name in names], key)
    except ValueError as error:
        raise UserError(_line(node, path), f"{key}: {error}", "name each once") from None


def _mapping(
    node: yaml.Node, path: str, what: str, readers: Mapping[str, Reader] | Reader
) -> dict[str, Any]:
    """{key: value}; readers: by key, or one for keys of any name. Keys without a value count as not
    there."""
    if not isinstance(node, yaml.MappingNode):
        raise _refuse(node, path, what, "lines of the form `key: value`")
    values: dict[str, Any] = {}
    for key_node, value in node.value:
        place = _line(key_node, path)
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(place, "a key is not a word", "write `key: value`")
        key = str(key_node.value)
        if key in values:
            raise UserError(place, f"key {key!r} is there twice", "keep one of them")
        if not callable(readers) and key not in readers:
            remedy = f"{nearest(key, readers)}keys of {what}: {', '.join(readers)}"
            raise UserError(place, f"unknown key {key!r}", remedy)
        empty = isinstance(value, yaml.ScalarNode) and value.tag == "tag:yaml.org,2002:null"
        reader = readers if callable(readers) else readers[key]
        values[key] = None if empty else reader(value, path, key)
    return {key: value for key, value in values.items() if value is not None}


def _each(read: Reader) -> Reader:
    """Reads {name: value}, of any names."""
    return partial(_mapping, readers=read)


def _filled(node: yaml.Node, path: str, what: str, record: type) -> Any:
    """A record by the readers of its fields, and the lines of its keys."""
    readers = {f.name: f.metadata["read"] for f in fields(record) if f.metadata}
    return record(**_mapping(node, path, what, readers), lines=Lines(path, _lines(node)))


def _text(word: str) -> str:
    if not word.strip():
        raise ValueError(word)
    return word


def _choice(*known: str) -> Reader:
    return _one(lambda word: words.among(*known)(word)[0], " or ".join(known))


def _epochs(node: yaml.Node, path: str, key: str) -> Any:
    """A number for all domains, or one for each."""
    return (_each(_COUNT) if isinstance(node, yaml.MappingNode) else _COUNT)(node, path, key)


def _column(node: yaml.Node, path: str, key: str) -> Any:
    """A column or a pattern, a mapping of them, or of N and D a number too."""
    number = key in ("N", "D")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, key, {"column": _TEXT, "times": _COUNT} if number else _TEXT)
    return words.number_or_text(_TEXT(node, path, key)) if number else _TEXT(node, path, key)


_TEXT = _one(_text, "one line of text")
_COUNT = _one(words.count, "a number above 0")
_WHOLE = _one(words.whole, "a whole number of at least 0")
_SHARES = _each(_one(words.share, "a share such as 0.1 or 10%"))
_NAMES = partial(_list, between=",")


def _given(record: Any, *names: str) -> dict[str, Any]:
    """What a file says of these fields."""
    return {name: x for name in names if (x := getattr(record, name)) is not None}


def _key(read: Reader, default: Any = None) -> Any:
    """The field of a record that a key of this reader fills."""
    return field(default=default, metadata={"read": read})


# --- Records -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines:
    """Where the keys of a file stand: {key: line}, those of inner mappings too, the first of a
    name."""

    path: str = ""
    of: Mapping[str, int] = field(default_factory=dict)

    def place(self, *keys: str) -> str:
        """The file and the line of the first of these keys that stands in it."""
        lines = (f"{self.path}, line {self.of[key]}" for key in keys if key in self.of)
        return next(lines, self.path)


@dataclass(frozen=True)
class Supply:
    """What there is of the domains, and what their shares may be, as in a `Question`.

    Attributes:
        caps, floors: {domain or group: share}.
        lines: where the keys stand, if in a file.
    """

    tokens: Mapping[str, float] | None = _key(_each(_COUNT))
    epochs: float | Mapping[str, float] | None = _key(_epochs)
    caps: Mapping[str, float] | None = _key(_SHARES)
    floors: Mapping[str, float] | None = _key(_SHARES)
    groups: Mapping[str, tuple[str, ...]] | None = _key(_each(partial(_list, between="+")))
    lines: Lines = field(default_factory=Lines)

    def over(self, other: Supply) -> dict[str, Any]:
        """Keyword arguments of a `Question`: this and, where this says nothing, the other."""
        both: dict[str, Any] = {
            name: {**(getattr(other, name) or {}), **(getattr(self, name) or {})}
            for name in ("tokens", "caps", "floors", "groups")
        }
        both["epochs"] = other.epochs if self.epochs is None else self.epochs
        return {name: value for name, value in both.items() if value not in (None, {})}

    def check_names(
        self, domains: Collection[str], groups: Collection[str], targets: Collection[str] = ()
    ) -> None:
        """Refuse a name that is none of these domains, or for shares of these groups, or for
        weights of these targets, by its line."""
        bounded = (*domains, *groups), "domain or group" if groups else "domain"
        known = dict.fromkeys(("tokens", "epochs"), (domains, "domain"))
        known |= dict.fromkeys(("caps", "floors", "fixed"), bounded)
        for key, (names, what) in (known | {"weights": (targets, "target")}).items():
            given = getattr(self, key, None)
            for name in given if isinstance(given, Mapping) else ():
                check_names([name], names, self.lines.place(name, key), what)


@dataclass(frozen=True)
class Mix(Supply):
    """One mixture that a config asks for, as in a `Question`."""

    N: float | None = _key(_COUNT)
    D: float | None = _key(_COUNT)
    weights: Mapping[str, float] | None = _key(_each(_one(words.number, "a number")))
    fixed: Mapping[str, float] | None = _key(_SHARES)
    extrapolate: str = _key(_choice("true", "false"), "false")

    def question(self, supply: Supply) -> dict[str, Any]:
        """Keyword arguments of a `Question`, within the trained shares unless extrapolated."""
        trained = {"trained": self.extrapolate == "false"}
        return _given(self, "N", "D", "weights", "fixed") | self.over(supply) | trained


def _mixes(node: yaml.Node, path: str, key: str) -> tuple[Mix, ...]:
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return tuple(_filled(item, path, key, Mix) for item in items)


def _supply(node: yaml.Node, path: str, key: str) -> Supply:
    """A supply as it stands, or of a file that is named from the folder of this one."""
    if isinstance(node, yaml.MappingNode):
        return _filled(node, path, key, Supply)
    return read_supply(Path(path).parent / _TEXT(node, path, key))


@dataclass(frozen=True)
class Config:
    """What a config asks for, key by key; paths as they are seen from where the command runs.

    Attributes:
        data, eval_data: files of runs to fit and to score, or (DEMO,); several are joined on `on`.
        law: name, or FILE.py:NAME.
        eval_where: which rows to score beside the fitted ones.
        mix: mixtures sought, within `supply` too.
        lines: where the keys stand.
    """

    data: tuple[str, ...] = _key(_list, ())
    on: tuple[str, ...] | None = _key(_NAMES)
    columns: Mapping[str, Any] | None = _key(_each(_column))
    where: str | None = _key(_TEXT)
    eval_where: str | None = _key(_TEXT)
    eval_data: tuple[str, ...] = _key(_list, ())
    law: str = _key(_TEXT, "")
    targets: tuple[str, ...] | None = _key(_NAMES)
    starts: int | None = _key(_WHOLE)
    hops: int | None = _key(_WHOLE)
    delta: float | None = _key(_COUNT)
    residual: str | None = _key(_choice("loss", "log"))
    precision: str | None = _key(_choice("float64", "float32"))
    prior: str | None = _key(_choice("weak", "none"))
    seed: int | None = _key(_WHOLE)
    supply: Supply = _key(_supply, Supply())
    mix: tuple[Mix, ...] = _key(_mixes, ())
    compare: tuple[str, ...] = _key(_NAMES, ())
    lines: Lines = field(default_factory=Lines)

    @property
    def read(self) -> dict[str, Any]:
        """Keyword arguments of `read_runs`."""
        return _given(self, "where", "columns", "on")

    @property
    def fit(self) -> dict[str, Any]:
        """Keyword arguments of `fit`."""
        names = ("targets", "starts", "hops", "delta", "residual", "prior", "precision", "seed")
        return _given(self, *names)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """Keyword arguments of a `Question` for each mixture sought."""
        return [mix.question(self.supply) for mix in self.mix]

    def check_names(self, domains: Collection[str], targets: Collection[str]) -> None:
        """Refuse a name in the mixtures that is none of a table's, by its line."""
        shared = self.supply.groups or {}
        self.supply.check_names(domains, shared)
        for mix in self.mix:
            mix.check_names(domains, {**shared, **(mix.groups or {})}, targets)


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read and check a config; relative paths in it start at its folder.

    Raises:
        UserError: with file, line and the nearest key.
    """
    remedy = "write at least `data: FILE` and `law: NAME`"
    config: Config = _read(str(path), "the config", Config, remedy)
    for key in ("data", "law"):
        if not getattr(config, key):
            raise UserError(config.lines.path, f"no key {key!r}", f"add a line `{key}: ...`")
    folder = Path(path).parent
    own = config.law.rpartition(":")[0].endswith(".py")
    law = str(folder / config.law) if own else config.law
    data, eval_data = (
        tuple(f if f == DEMO else os.path.normpath(folder / Path(f).expanduser()) for f in files)
        for files in (config.data, config.eval_data)
    )
    return replace(config, data=data, eval_data=eval_data, law=law)


def read_supply(path: str | os.PathLike[str]) -> Supply:
    """Read and check a file of tokens, epochs, caps, floors and groups.

    Raises:
        UserError: with file, line and the nearest key.
    """
    return _read(str(path), "the supply", Supply, "write for example `tokens: {web: 600B}`")


def _read(path: str, what: str, record: type, remedy: str) -> Any:
    """The record that a file holds; remedy: of an empty file."""
    root = _compose(path, _content(path))
    if root is None:
        raise UserError(path, "is empty", remedy)
    return _filled(root, path, what, record)


def _lines(root: yaml.Node) -> dict[str, int]:
    """Where each key stands, those of inner mappings too; the first of a name."""
    lines: dict[str, int] = {}
    for item in root.value if isinstance(root, yaml.CollectionNode) else ():
        key, value = item if isinstance(item, tuple) else (None, item)
        if key is not None:
            lines.setdefault(str(key.value), key.start_mark.line + 1)
        lines = _lines(value) | lines
    return lines


# --- YAML -----------------------------------------------------------------------------------------


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            what = f"is larger than {_LARGEST // 1024} KiB"
            raise UserError(path, what, "name a config, not a table")
        return content.decode("utf-8")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise UserError(path, what, "name a file in YAML, see configs/ of mixjax") from None
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
        what = f"is not YAML ({error.problem})"
        raise UserError(place, what, "mend the line; quote text that begins with { or [") from None
    except yaml.YAMLError as error:
        what = f"is not YAML ({str(error).splitlines()[0]})"
        raise UserError(path, what, "name a config file") from None


def _check_events(path: str, text: str) -> None:
    """Refuse what a config has no use for and could do harm: aliases, tags, deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = f"{path}, line {event.start_mark.line + 1}"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise UserError(place, f"alias *{event.anchor}", "write the value out")
        if getattr(event, "tag", None) is not None:
            raise UserError(place, f"tag {event.tag!r}", "leave it out")
        if depth > _DEEPEST:
            raise UserError(place, "is nested too deeply", "a config has at most four levels")


# --- Files of data -------------------------------------------------------------------------------


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
        remedy = "name the file, or the folder that holds the files of the config"
        raise UserError("--data", f"no file or folder {replacement!r}", remedy)
    if replacement is None or Path(replacement).is_dir():
        return tuple(name if name == DEMO else _found(name, replacement) for name in files)
    if len(files) > 1:
        what = f"{replacement!r} is one file, the config names {len(files)}"
        raise UserError("--data", what, "name the folder that holds them")
    return (replacement,)


def _found(name: str, folder: str | None) -> str:
    elsewhere = folder or os.environ.get("MIXJAX_DATA", "")
    places = [] if folder else [Path(name)]
    if elsewhere:
        places.append(Path(elsewhere) / Path(name).name)
    for place in places:
        if place.is_file():
            return str(place)
    nowhere = "no such file" + (f", nor in {elsewhere!r}" if elsewhere else "")
    remedy = "pass --data PATH, or set MIXJAX_DATA to the folder that holds it"
    raise UserError(name, nowhere, remedy)
