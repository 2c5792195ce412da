"""Plain content of results, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass

import numpy as np
import pytest

from mixjax.errors import UserError
from mixjax.text import Record, plain, table, to_json, write_whole


@dataclass(frozen=True)
class Inner:
    shares: np.ndarray
    loss: float


@dataclass(frozen=True)
class Outer(Record):
    names: tuple[str, ...]
    inner: dict[str, Inner]


@dataclass(frozen=True)
class Short(Record):
    inner: Inner

    def to_dict(self):
        return {"loss": self.inner.loss}


def test_a_record_is_its_fields_as_json_can_hold_them():
    inner = Inner(np.array([0.5, np.nan]), np.inf)
    content = Outer(("a", "b"), {"x": inner}).to_dict()
    assert content == {"names": ["a", "b"], "inner": {"x": {"shares": [0.5, None], "loss": None}}}
    assert json.loads(to_json(Outer((), {}))) == {"names": [], "inner": {}}


def test_a_record_within_another_says_itself_what_it_is():
    short = Short(Inner(np.zeros(3), 2.0))
    assert plain({"best": short}) == {"best": {"loss": 2.0}}
    assert plain(np.float64(2.5)) == 2.5


def test_a_table_is_aligned():
    assert table(["name", "n"], [["web", 10], ["c", None]]).splitlines() == [
        "name   n",
        "--------",
        "web   10",
        "c      -",
    ]


@pytest.mark.parametrize("content", ["héé\n", b"\x89PNG\r\n\x00"])
def test_a_file_is_written_as_it_is(tmp_path, content):
    path = tmp_path / "file"
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("no/file", "in a folder that exists"), ("folder", "a file, not a folder")],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, name, remedy):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"cannot be written .*{remedy}"):
        write_whole(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
