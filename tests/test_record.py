"""A fit made by hand: it predicts as the twin does, and its file gives it back exactly or says why
not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import mixjax
from mixjax.errors import UserError
from mixjax.fitting.load import DamagedError, check, load_fit, schema
from mixjax.fitting.loss import Huber
from mixjax.fitting.record import FORMAT, SCHEMA, Fit, Search, Status
from mixjax.fitting.simulate import demo_truth
from mixjax.law import Coefficients, Law, Parameter
from mixjax.text import write_whole
from tests import reference

ROOT = Path(mixjax.__file__).parents[1]
# Ten operations in float64; a float32 anywhere would show as 1e-8.
VALUE = {"rtol": 1e-13}

# Thirds and sevenths: numbers that a short decimal form would not give back.
FIT = Fit(
    law="additive",
    domains=("web", "code", "books"),
    targets=("wiki", "github"),
    params={
        "wiki": {
            "E": 1 / 3,
            "C": np.array([1 / 7, 2.0, 3.0]),
            "gamma": np.array([0.3, -0.2, 1e-17]),
            "A": 600.0 / 7,
            "alpha": 0.34,
            "B": 1e3 / 3,
            "beta": 0.28,
        },
        "github": {
            "E": 0.9,
            "C": np.array([0.1, 5.0, 0.7]),
            "gamma": np.array([0.6, 0.5, 0.4]),
            "A": 50.0,
            "alpha": 0.3,
            "B": 3e5,
            "beta": 0.5,
        },
    },
    objective={"wiki": 1e-7 / 3, "github": 2e-300},
    search={
        "wiki": Search(Status.CONVERGED, 20, 4321, 1e-9, 7, 10, 0),
        "github": Search(Status.OUT_OF_BUDGET, 18, 9999, 1e-3, 1, 10, 2, ("gamma[web]", "C[code]")),
    },
    huber=Huber(2e-3, "log"),
    units=(1.0, 1.0),
    ranges={"N": (1e8, 1e9 / 3), "D": (2e9, 7e10)},
    made={"mixjax": "0.1.0", "seed": 3, "note": "naïve"},
)

rng = np.random.default_rng(0)
H = rng.dirichlet(np.ones(3), 5)
N = rng.uniform(1e8, 1e9, 5)
D = rng.uniform(1e9, 1e11, 5)


def expected(h, N, D):
    return {t: reference.losses(FIT.law, FIT.params[t], h, N, D) for t in FIT.targets}


def assert_losses(predicted, wanted, shape):
    assert tuple(predicted) == FIT.targets
    for t in FIT.targets:
        assert predicted[t].shape == shape
        assert predicted[t].dtype == np.float64
        np.testing.assert_allclose(predicted[t], np.reshape(wanted[t], shape), **VALUE)


# ---------------------------------------------------------------- predict


def test_predict_rows():
    assert_losses(FIT.predict(N, D, H), expected(H, N, D), (5,))


def test_predict_one_row_gives_scalars():
    assert_losses(
        FIT.predict(4e8, 2e10, [0.2, 0.3, 0.5]), expected([[0.2, 0.3, 0.5]], [4e8], [2e10]), ()
    )


@pytest.mark.parametrize(
    ("n", "d", "h"),
    [
        (4e8, D, H),
        (N, 2e10, H),
        (N, D, H[0]),
        (4e8, 2e10, H),
        (4e8, D, H[0]),
        (list(N), list(D), H.tolist()),
    ],
    ids=["one N", "one D", "one mixture", "one scale", "one N and mixture", "lists"],
)
def test_predict_repeats_what_is_one(n, d, h):
    full_h, full_n, full_d = (
        np.broadcast_to(h, (5, 3)),
        np.broadcast_to(n, 5),
        np.broadcast_to(d, 5),
    )
    assert_losses(FIT.predict(n, d, h), expected(full_h, full_n, full_d), (5,))


def test_predict_integer_counts():
    assert_losses(
        FIT.predict(400_000_000, 20_000_000_000, [1, 0, 0]),
        expected([[1.0, 0.0, 0.0]], [4e8], [2e10]),
        (),
    )


@pytest.mark.parametrize(
    ("weights", "row"),
    [
        ({"books": 0.5, "web": 0.2, "code": 0.3}, [0.2, 0.3, 0.5]),
        ({"code": 0.4, "books": 0.6}, [0.0, 0.4, 0.6]),
    ],
    ids=["another order", "left out is zero"],
)
def test_predict_weights_by_name(weights, row):
    assert_losses(FIT.predict(4e8, 2e10, weights), expected([row], [4e8], [2e10]), ())


def test_predict_weights_by_name_in_rows():
    by_name = {"books": H[:, 2], "web": H[:, 0], "code": H[:, 1]}
    assert_losses(
        FIT.predict(4e8, 2e10, by_name), expected(H, np.full(5, 4e8), np.full(5, 2e10)), (5,)
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"D": D, "h": H}, "N is missing"),
        ({"N": N, "h": H}, "D is missing"),
        ({"N": N, "D": D}, "h is missing; give the weights of web, code, books"),
        (
            {"N": N, "D": D, "h": H[:, :2]},
            "h has shape (5, 2); its last axis holds the 3 domains web, code, books",
        ),
        ({"N": N, "D": D, "h": 0.5}, "h has shape (); its last axis holds the 3 domains"),
        ({"N": N[:4], "D": D, "h": H}, "N (4,), D (5,) and h (5, 3) do not go together"),
        ({"N": N, "D": D[:2], "h": H[0]}, "N (5,), D (2,) and h (3,) do not go together"),
        (
            {"N": N, "D": D, "h": {"web": 0.5, "cod": 0.5}},
            "no domain 'cod'; did you mean 'code'? choose from web, code, books",
        ),
    ],
    ids=["no N", "no D", "no h", "two weights", "a number", "four N", "two D", "unknown domain"],
)
def test_predict_says_what_is_wrong(arguments, what):
    with pytest.raises(UserError) as error:
        FIT.predict(**arguments)
    assert str(error.value).startswith(f"predict: {what}")
    assert "\n" not in str(error.value)


def test_predict_reads_neither_n_nor_d_of_a_law_without_them():
    params = {"wiki": {"E": 1.0, "C": 2.0, "gamma": np.array([-1.0, 0.5, 0.2])}}
    fit = replace(FIT, law="ye_m4", targets=("wiki",), params=params)
    wanted = reference.losses("ye_m4", params["wiki"], H, N, D)
    np.testing.assert_allclose(fit.predict(h=H)["wiki"], wanted, **VALUE)
    np.testing.assert_allclose(fit.predict(N=np.ones(2), D=0.0, h=H)["wiki"], wanted, **VALUE)


def test_predict_of_an_own_domain_law_reads_its_own_weight():
    params = {
        t: {"B": b, "beta": 0.3, "E": 1.5, "C": 1.1, "gamma": 0.1}
        for t, b in (("code", 100.0), ("web", 200.0))
    }
    fit = replace(FIT, law="ge24", targets=("code", "web"), params=params)
    predicted = fit.predict(D=D, h=H)
    for t in ("code", "web"):
        np.testing.assert_allclose(
            predicted[t],
            reference.losses("ge24", params[t], H[:, [fit.domains.index(t)]], N, D),
            **VALUE,
        )


def test_predict_without_domains():
    """Chinchilla's law of a table without mixtures."""
    params = {"wiki": {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 410.0, "beta": 0.28}}
    fit = replace(FIT, law="chinchilla", domains=(), targets=("wiki",), params=params)
    np.testing.assert_allclose(
        fit.predict(N, D)["wiki"],
        reference.losses("chinchilla", params["wiki"], np.empty((5, 0)), N, D),
        **VALUE,
    )


MINE = Law(
    "mine",
    (Parameter("E"), Parameter("slope", ("k",), "real", (-1.0, 1.0))),
    lambda params, h: Coefficients(params["E"] - jnp.sum(params["slope"] * h)),
)


def test_a_users_law_is_handed_over_with_the_file(tmp_path):
    fit = replace(
        FIT,
        law="mine",
        targets=("wiki",),
        params={"wiki": {"E": 2.0, "slope": np.array([0.5, 0.0, -1.0])}},
        own_law=MINE,
    )
    np.testing.assert_allclose(fit.predict(h=H)["wiki"], 2 - 0.5 * H[:, 0] + H[:, 2], rtol=1e-14)
    fit.save(tmp_path / "mine.json")
    np.testing.assert_array_equal(
        load_fit(tmp_path / "mine.json", MINE).predict(h=H)["wiki"], fit.predict(h=H)["wiki"]
    )
    with pytest.raises(
        UserError,
        match=r"made with 'mine', which is not a built-in law; hand it over: load_fit\(path, law=",
    ):
        load_fit(tmp_path / "mine.json").predict(h=H)


# ---------------------------------------------------------------- the file


def test_round_trip_is_exact(tmp_path):
    FIT.save(tmp_path / "fit.json")
    back = load_fit(str(tmp_path / "fit.json"))
    for name in (
        "law",
        "domains",
        "targets",
        "objective",
        "search",
        "huber",
        "units",
        "ranges",
        "made",
    ):
        assert getattr(back, name) == getattr(FIT, name), name
    for t in FIT.targets:
        assert list(back.params[t]) == list(FIT.params[t])
        for name, value in FIT.params[t].items():
            np.testing.assert_array_equal(
                back.params[t][name], value, strict=isinstance(value, np.ndarray)
            )
    for t, losses in FIT.predict(N, D, H).items():
        np.testing.assert_array_equal(back.predict(N, D, H)[t], losses)
    back.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "fit.json").read_bytes()


def test_fits_compare(tmp_path):
    FIT.save(tmp_path / "fit.json")
    assert load_fit(tmp_path / "fit.json") == FIT
    assert (
        replace(
            FIT,
            params=FIT.params | {"wiki": FIT.params["wiki"] | {"C": np.array([1 / 7, 2.0, 3.1])}},
        )
        != FIT
    )


def damaged(**changes) -> str:
    content = FIT.to_dict() | changes
    return json.dumps({key: value for key, value in content.items() if value is not ...})


def with_fit(**changes) -> dict:
    fits = FIT.to_dict()["fits"]
    return fits | {"wiki": fits["wiki"] | changes}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty; name a whole file written by mixjax fit, or fit again"),
        (
            '{"format": "mixjax fit", "schema": 1, "law"',
            (
                "is not JSON (line 1: Expecting ':' delimiter); name a whole file written by "
                "mixjax fit, or fit again"
            ),
        ),
        ("N,D,h\n1,2,3\n", "is not JSON"),
        ("[1, 2]", "is not a mixjax fit"),
        ('{"format": "something else"}', "is not a mixjax fit"),
        (
            damaged(schema=SCHEMA + 1),
            f"has schema {SCHEMA + 1}, this mixjax reads {SCHEMA}; use the mixjax that wrote it",
        ),
        (damaged(schema=...), f"has schema None, this mixjax reads {SCHEMA}"),
        (damaged(fits=...), "is damaged: there is no 'fits'; fit again"),
        (damaged(ranges=...), "is damaged: there is no 'ranges'; fit again"),
        (damaged(targets=["wiki", "arxiv"]), "is damaged: there is no 'arxiv' of 'fits'"),
        (damaged(delta="small"), "is damaged: 'delta' is \"small\""),
        (damaged(units=None), "is damaged: 'units' is null"),
        (damaged(ranges={"N": [1.0]}), "is damaged: 'N' of 'ranges' is [1.0]"),
        (damaged(ranges=[1.0]), "is damaged: 'ranges' is [1.0]"),
        (damaged(residual="square"), "is damaged: 'residual' is \"square\""),
        (damaged(prior="strong"), "is damaged: 'prior' is \"strong\""),
        (damaged(domains=["web", "web", "code"]), "is damaged: 'domains' is"),
        (
            damaged(share_ranges={"web": [0.1, None]}),
            "is damaged: a value of 'web' of 'share_ranges' is null",
        ),
        (damaged(fits=with_fit(params=None)), "is damaged: 'params' of 'wiki' of 'fits' is null"),
        (
            damaged(fits=with_fit(params={"E": None})),
            "is damaged: 'E' of 'params' of 'wiki' of 'fits' is null",
        ),
        (
            damaged(fits=with_fit(params={"C": [1.0, 2.0]})),
            "is damaged: 'C' of target 'wiki' has 2 values for 3 domains",
        ),
        (
            damaged(fits=with_fit(params={"C": [1.0, "two", 3.0]})),
            "is damaged: a value of 'C' of 'params' of 'wiki' of 'fits' is \"two\"",
        ),
        (
            damaged(fits=with_fit(objective=float("nan"))),
            "is damaged: 'objective' of 'wiki' of 'fits' is NaN",
        ),
        (
            damaged(fits=with_fit(search={"at_limit": []})),
            "is damaged: there is no 'status' of 'search' of 'wiki' of 'fits'",
        ),
    ],
    ids=lambda value: None if len(value) > 40 else value,
)
def test_load_says_what_is_wrong(tmp_path, text, what):
    path = tmp_path / "fit.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_fit(path)
    assert str(error.value).startswith(f"{path}: {what}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"law": "joint"},
            (
                "the parameters of target 'wiki' are not those of the joint law: it lacks C_A, "
                "gamma_A, C_B, gamma_B and has A, B beyond them"
            ),
        ),
        (
            {
                "fits": {
                    t: {**f, "params": {n.replace("C", "Cx"): v for n, v in f["params"].items()}}
                    for t, f in FIT.to_dict()["fits"].items()
                }
            },
            (
                "the parameters of target 'wiki' are not those of the additive law: it lacks C "
                "and has Cx beyond them"
            ),
        ),
        (
            {
                "fits": with_fit(
                    params=FIT.to_dict()["fits"]["wiki"]["params"]
                    | {"C": 1.0, "E": [1.0, 2.0, 3.0]}
                )
            },
            "it has E of 3 numbers, not of one number and has C of one number, not of 3 numbers",
        ),
    ],
    ids=["another law", "another name", "another shape"],
)
def test_parameters_of_another_law_are_refused_when_the_law_is_needed(tmp_path, changes, what):
    path = tmp_path / "fit.json"
    path.write_text(damaged(**changes), encoding="utf-8")
    fit = load_fit(path)
    with pytest.raises(UserError) as error:
        fit.predict(N, D, H)
    assert str(error.value).startswith(f"{path}: ")
    assert what in str(error.value)
    assert str(error.value).endswith("; fit again")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"law": 3},
        {"targets": []},
        {"targets": ["wiki", "wiki"]},
        {"domains": [1, 2, 3]},
        {"delta": 0},
        {"delta": True},
        {"residual": "square"},
        {"prior": "strong"},
        {"units": {"N": 1.0}},
        {"units": {"N": 1.0, "D": 1.0, "loss": 1.0}},
        {"ranges": {"N": [1.0]}},
        {"ranges": {"N": [1.0, 2.0, 3.0]}},
        {"ranges": {"k": [1.0, 2.0]}},
        {"share_ranges": {"web": [0.1, 0.5]}},
        {"share_ranges": {"web": [0.1, None]}},
        {"fits": ...},
        {"fits": with_fit(objective=-1.0)},
        {"fits": with_fit(params={"E": "1"})},
        {"fits": with_fit(params={"C": [1.0, "two", 3.0]})},
        {"fits": with_fit(search={"at_limit": []})},
        {"fits": with_fit(search=asdict(Search(Status.KNOWN)) | {"rows": 1.5})},
        {"fits": with_fit(search=asdict(Search(Status.KNOWN)) | {"status": "over"})},
        {"made": None},
        {"more": 1},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_what_is_refused_is_what_the_schema_forbids(changes):
    """By the reader of the package and by the jsonschema library."""
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads(damaged(**changes))
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    if validator.is_valid(content):
        check(content, schema())
    else:
        with pytest.raises(DamagedError):
            check(content, schema())
    assert validator.is_valid(content) == (changes in ({}, {"share_ranges": {"web": [0.1, 0.5]}}))


def test_every_ending_has_a_sentence():
    assert {status.value for status in Status} == set(
        schema()["$defs"]["search"]["properties"]["status"]["enum"]
    )
    for status in Status:
        assert status.sentence
        assert bool(status.remedy) == (status in (Status.OUT_OF_BUDGET, Status.INTERRUPTED))


def test_files_without_the_ranges_of_shares_load(tmp_path):
    fit = replace(FIT, share_ranges={"web": (0.1, 0.5), "code": (0.0, 1 / 3), "books": (0.2, 0.2)})
    fit.save(tmp_path / "fit.json")
    assert load_fit(tmp_path / "fit.json").share_ranges == fit.share_ranges
    FIT.save(tmp_path / "old.json")
    assert "share_ranges" not in json.loads((tmp_path / "old.json").read_text(encoding="utf-8"))
    assert load_fit(tmp_path / "old.json").share_ranges == {}


def test_load_of_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "fit.json"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="is not JSON; name a file written by mixjax fit"):
        load_fit(path)


@pytest.mark.parametrize(
    ("name", "why"), [("absent.json", "No such file or directory"), (".", "Is a directory")]
)
def test_load_of_what_cannot_be_read(tmp_path, name, why):
    with pytest.raises(UserError) as error:
        load_fit(tmp_path / name)
    assert f"cannot be read ({why}); name a file written by mixjax fit" in str(error.value)


def test_save_to_a_folder_that_does_not_exist(tmp_path):
    path = tmp_path / "absent" / "fit.json"
    with pytest.raises(UserError) as error:
        FIT.save(path)
    assert str(error.value) == (
        f"{path}: cannot be written (No such file or directory); name a file in a folder "
        f"that exists and can be written"
    )
    assert list(tmp_path.iterdir()) == []


def test_save_onto_a_folder(tmp_path):
    (tmp_path / "fit.json").mkdir()
    with pytest.raises(UserError, match=r"fit.json: cannot be written \(Is a directory\)"):
        FIT.save(tmp_path / "fit.json")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "fit.json"
    FIT.save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(FIT, objective={"wiki": np.nan, "github": 0.0}).save(path)
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half" * 100_000 + "\udc80")  # fails in the middle of writing
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_replaces_the_old_file(tmp_path):
    path = tmp_path / "fit.json"
    FIT.save(path)
    replace(FIT, huber=Huber(0.5)).save(path)
    assert load_fit(path).huber == Huber(0.5)
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_says_what_it_is():
    content = FIT.to_dict()
    assert list(content)[:2] == ["format", "schema"]
    assert (content["format"], content["schema"]) == (FORMAT, SCHEMA)
    assert json.loads(json.dumps(content, allow_nan=False)) == content


# ---------------------------------------------------------------- in a process of its own


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_load_fit_needs_no_jax(tmp_path):
    FIT.save(tmp_path / "fit.json")
    code = """
import sys
sys.modules["jax"] = sys.modules["jaxlib"] = None
import mixjax
fit = mixjax.load_fit(sys.argv[1])
print(fit.params["wiki"]["C"].tolist(), fit.search["github"].status)
"""
    assert (
        run(code, str(tmp_path / "fit.json"))
        == f"{FIT.params['wiki']['C'].tolist()} out of budget\n"
    )


def test_predict_is_float64_and_leaves_jax_as_it_was(tmp_path):
    FIT.save(tmp_path / "fit.json")
    code = """
import json, sys
import jax, jax.numpy as jnp
import mixjax
predicted = mixjax.load_fit(sys.argv[1]).predict([3e8, 5e8], [2e10, 3e10], [0.2, 0.3, 0.5])
assert not jax.config.jax_enable_x64
assert jnp.ones(1).dtype == jnp.float32
print(json.dumps({t: [str(x.dtype), x.tolist()] for t, x in predicted.items()}))
"""
    predicted = json.loads(run(code, str(tmp_path / "fit.json")))
    wanted = expected([[0.2, 0.3, 0.5]] * 2, [3e8, 5e8], [2e10, 3e10])
    for t in FIT.targets:
        dtype, losses = predicted[t]
        assert dtype == "float64"
        np.testing.assert_allclose(losses, wanted[t], **VALUE)


def test_printed_in_one_screen():
    lines = str(FIT).splitlines()
    assert len(lines) == 2 + len(FIT.targets)
    assert all(target in line for target, line in zip(FIT.targets, lines[2:], strict=True))


def test_a_file_says_its_prior_and_one_of_before_had_none(tmp_path):
    for prior in ("weak", "none"):
        fit = replace(demo_truth(), huber=Huber(prior=prior))
        fit.save(tmp_path / "fit.json")
        content = json.loads((tmp_path / "fit.json").read_text())
        assert content["prior"] == prior
        assert load_fit(tmp_path / "fit.json").huber == fit.huber
    del content["prior"]
    (tmp_path / "fit.json").write_text(json.dumps(content))
    assert load_fit(tmp_path / "fit.json").huber == Huber(prior="none")
