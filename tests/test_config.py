"""Configs: what is read, what is refused and where the message points."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixjax.cli.config import DEMO, find_data, read_config
from mixjax.errors import UserError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return str(path)

    return write


def refused(path: str, *words: str) -> None:
    with pytest.raises(UserError) as error:
        read_config(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(path)
    for word in words:
        assert word in text, text


def test_everything_that_a_config_may_say(write, tmp_path):
    config = read_config(
        write("""
data: [mixtures.csv, losses.csv]
on: run
eval_data: test.csv
columns: {h: "weight_{}", loss: "{}_loss", N: model_size}
where: split == 'train'
eval_where: split == 'eval'
law: own.py:LAW
targets: a, b
starts: 16
hops: 0
delta: 1e-3
residual: log
seed: 3
mix:
  - {N: 7e9, D: 1.5e11, weights: {a: 1, b: 2}, caps: {no: 0.5}, floors: {no: .1}}
  - {N: 1e9, D: 150000000000}
compare: [additive, joint]
""")
    )
    assert config.data == (str(tmp_path / "mixtures.csv"), str(tmp_path / "losses.csv"))
    assert config.eval_data == (str(tmp_path / "test.csv"),)
    assert config.read == {
        "on": ("run",),
        "where": "split == 'train'",
        "columns": {"h": "weight_{}", "loss": "{}_loss", "N": "model_size"},
    }
    assert config.law == f"{tmp_path / 'own.py'}:LAW"
    assert config.fit == {
        "targets": ("a", "b"),
        "starts": 16,
        "hops": 0,
        "delta": 1e-3,
        "residual": "log",
        "seed": 3,
    }
    assert config.questions == [
        {
            "N": 7e9,
            "D": 1.5e11,
            "weights": {"a": 1.0, "b": 2.0},
            "caps": {"no": 0.5},
            "floors": {"no": 0.1},
            "trained": True,
        },
        {"N": 1e9, "D": 1.5e11, "trained": True},
    ]
    assert config.compare == ("additive", "joint")


def test_only_data_and_law_are_needed(write):
    config = read_config(write("data: builtin:demo\nlaw: joint\nmix:\nwhere:\n"))
    assert (config.data, config.law, config.questions, config.read, config.fit) == (
        (DEMO,),
        "joint",
        [],
        {},
        {},
    )


SUPPLY = "{tokens: {web: 600B, wiki: 4e9}, epochs: {wiki: 4}, groups: {text: web+wiki}}"
QUESTIONS = """
mix:
  - {N: 7B, D: 1.5T, caps: {text: 90%}, floors: {code: 0.1}, tokens: {wiki: 8B}}
  - {N: 1e9, D: 1e11, epochs: 2, groups: {rest: [code, wiki]}, fixed: {rest: 40%}}
"""


@pytest.mark.parametrize("inline", [True, False])
def test_supplies_of_all_mixtures_and_of_one(write, tmp_path, inline):
    (tmp_path / "supply.yaml").write_text(SUPPLY)
    supply = SUPPLY if inline else "supply.yaml"
    config = read_config(write(f"data: a.csv\nlaw: joint\nsupply: {supply}\n{QUESTIONS}"))
    groups = {"text": ("web", "wiki")}
    assert config.questions == [
        {
            "N": 7e9,
            "D": 1.5e12,
            "caps": {"text": 0.9},
            "floors": {"code": 0.1},
            "tokens": {"web": 6e11, "wiki": 8e9},
            "epochs": {"wiki": 4.0},
            "groups": groups,
            "trained": True,
        },
        {
            "N": 1e9,
            "D": 1e11,
            "fixed": {"rest": 0.4},
            "tokens": {"web": 6e11, "wiki": 4e9},
            "epochs": 2.0,
            "groups": {**groups, "rest": ("code", "wiki")},
            "trained": True,
        },
    ]
    config.check_names(("web", "code", "wiki"), ())
    with pytest.raises(UserError, match=r"line \d: no domain.* 'wiki'"):
        config.check_names(("web", "code"), ())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_our_own_configs_are_read(path):
    assert read_config(path).data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: a.csv\nlaw: joint\ntragets: a\n", ("line 3", "'tragets'", "'targets'")),
        ("data: a.csv\nlaw: joint\nmix:\n  N: 7e9\n  cap: {a: 1}\n", ("line 5", "'cap'", "'caps'")),
        ("data: a.csv\nlaw: joint\nstarts: many\n", ("line 3", "starts", "'many'", "whole number")),
        ("data: a.csv\nlaw: joint\nstarts: 1.5\n", ("line 3", "whole number")),
        ("data: a.csv\nlaw: joint\nhops: -1\n", ("line 3", "at least 0")),
        ("data: a.csv\nlaw: joint\ndelta: 0\n", ("line 3", "above 0")),
        ("data: a.csv\nlaw: joint\ndelta: .nan\n", ("line 3", "number")),
        ("data: a.csv\nlaw: joint\nmix: {N: 7Q}\n", ("line 3", "N is '7Q'")),
        ("data: a.csv\nlaw: [joint]\n", ("line 2", "law is a list")),
        ("data: {a: 1}\nlaw: joint\n", ("line 1", "data is a mapping")),
        ("data: a.csv\nlaw: joint\nresidual: huber\n", ("line 3", "loss or log")),
        ("data: a.csv\nlaw: joint\nwhere: [1]\n", ("line 3", "where is a list")),
        ("data: a.csv\nlaw: joint\ntargets: [a, a]\n", ("line 3", "'a' is named twice")),
        ("data: a.csv\nlaw: joint\ntargets: a,,b\n", ("line 3", "empty name")),
        ("data: a.csv\nlaw: joint\ncolumns: h\n", ("line 3", "columns is 'h'")),
        ("data: a.csv\nlaw: joint\nlaw: full\n", ("line 3", "'law' is there twice")),
        ("data: a.csv\nlaw: joint\nmix: {caps: {a: 1, a: 2}}\n", ("line 3", "'a' is there twice")),
        ("data: a.csv\nlaw: joint\nsupply: {token: {}}\n", ("line 3", "'token'", "'tokens'")),
        ("data: a.csv\nlaw: joint\nmix:\n  epochs: [2]\n", ("line 4", "epochs is a list")),
        ("data: a.csv\nlaw: joint\nmix: {caps: {a: 1/2}}\n", ("line 3", "a is '1/2'", "10%")),
        ("data: a.csv\n", ("'law'",)),
        ("law: joint\ndata:\n", ("'data'",)),
        ("", ("is empty",)),
        ("# nothing\n", ("is empty",)),
        ("just text", ("line 1", "the config is 'just text'")),
        ("- a\n- b\n", ("line 1", "a list")),
        ("data: a.csv\nlaw: [joint\n", ("is not YAML",)),
        ("data: a.csv\n\tlaw: joint\n", ("line 2", "is not YAML")),
        ("? [a]\n: 1\n", ("a key is not a word",)),
        ("a: &x [1, 1]\nb: &y [*x, *x]\ndata: *y\n", ("line 2", "alias *x")),
        (
            "data: !!python/object/apply:os.system [echo]\nlaw: joint\n",
            ("line 1", "tag ", "os.system"),
        ),
        ("data: a.csv\nlaw: " + "[" * 5000, ("nested too deeply",)),
        ("data: a.csv\n" + "#" * 300_000, ("larger than",)),
        ("--- a\n--- b\n", ("is not YAML",)),
    ],
)
def test_mistakes_are_told_with_their_line(write, text, words):
    refused(write(text), *words)


def test_files_that_are_no_configs(tmp_path):
    (tmp_path / "c.yaml").write_text("data: a.csv\nlaw: joint\nsupply: none.yaml\n")
    with pytest.raises(UserError, match=r"none.yaml: cannot be read"):
        read_config(tmp_path / "c.yaml")
    refused(str(tmp_path / "none.yaml"), "cannot be read")
    refused(str(tmp_path), "cannot be read")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00data")
    refused(str(tmp_path / "binary.yaml"), "not text")
    (tmp_path / "control.yaml").write_bytes(b"data: \x01")
    refused(str(tmp_path / "control.yaml"), "not YAML")


def test_data_is_found_where_it_is_named_or_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MIXJAX_DATA", raising=False)
    here, elsewhere = tmp_path / "here.csv", tmp_path / "data" / "there.csv"
    elsewhere.parent.mkdir()
    here.write_text("")
    elsewhere.write_text("")
    assert find_data((str(here),)) == (str(here),)
    assert find_data((str(tmp_path / "there.csv"),), str(elsewhere.parent)) == (str(elsewhere),)
    assert find_data((str(tmp_path / "other.csv"),), str(here)) == (str(here),)
    with pytest.raises(UserError, match="pass --data PATH"):
        find_data((str(tmp_path / "there.csv"),))
    with pytest.raises(UserError, match="no file or folder"):
        find_data((str(here),), str(tmp_path / "none"))
    with pytest.raises(UserError, match="names 2"):
        find_data((str(here), str(here)), str(here))
    monkeypatch.setenv("MIXJAX_DATA", str(elsewhere.parent))
    assert find_data((str(tmp_path / "there.csv"),)) == (str(elsewhere),)
    assert find_data((DEMO,)) == (DEMO,)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "data: builtin:demo\nlaw: jiont\n",
            "config.yaml, line 2: no law 'jiont'; did you mean 'joint'?",
        ),
        (
            "data: builtin:demo\nlaw: joint\ncompare: additive,joitn\n",
            "config.yaml, line 3: no law 'joitn'; did you mean 'joint'?",
        ),
        (
            "data: builtin:demo\nlaw: joint\nmix:\n  N: 7e9\n  D: 1e11\n  caps: {cdoe: 0.1}\n",
            "config.yaml, line 6: no domain 'cdoe'; did you mean 'code'?",
        ),
    ],
)
def test_names_in_values_are_told_with_their_line(tmp_path, capsys, lines, said):
    from mixjax.cli import main

    path = tmp_path / "config.yaml"
    path.write_text(lines)
    assert main(["run", str(path), "-o", str(tmp_path / "out"), "--no-cache"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
