"""Plain text and plain content (any step): aligned tables, what JSON holds, files written whole."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mixjax.errors import UserError


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Plain aligned text: the first column to the left, the others to the right; None is shown as
    -."""
    cells = [list(head)] + [["-" if x is None else str(x) for x in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


class Record:
    """What a result is, a frozen dataclass of named content: its fields as plain content."""

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return _fields(self)


def plain(value: Any) -> Any:
    """The same content as dicts, lists, strings and numbers; those that JSON has not (infinite, not
    a number) become None. A `Record` is its `to_dict`, another dataclass its fields."""
    if isinstance(value, Record):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return value


def _fields(record: Any) -> dict[str, Any]:
    return {f.name: plain(getattr(record, f.name)) for f in fields(record)}


def to_json(content: Any) -> str:
    """Content as the text of a JSON file; what is infinite or not a number is null."""
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file whole or not at all: to a neighbour first, then renamed.

    Args:
        content: text, written as UTF-8, or bytes.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    target = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    remedy = "name a file in a folder that exists and can be written"
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        remedy = "name a file, not a folder, that can be written"
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files for their owner alone
        os.replace(name, target)
        name = None
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise UserError(str(target), what, remedy) from None
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)
