"""Exports: whole tokens that sum to D, and files that say by name what the mixture says."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mixjax.errors import UserError
from mixjax.mixture.limits import caps_from_tokens, epochs_of
from mixjax.report.export import FORMS, allocate, export_mixture, rounded

MIX = {"web": 0.6251234567, "code": 0.25, "books": 0.1248765433, "wiki": 0.0}


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-3),
    st.integers(1, 10**15),
)
def test_tokens_sum_exactly_and_stay_within_one(parts, total):
    weights = {f"d{i}": w / math.fsum(parts) for i, w in enumerate(parts)}
    tokens = allocate(weights, float(total))
    assert sum(tokens.values()) == total
    scale = math.fsum(weights.values())
    assert all(
        n >= 0 and abs(n - weights[d] / scale * total) <= 1 + 1e-12 * total
        for d, n in tokens.items()
    )


def test_the_largest_remainders_get_what_is_left():
    assert allocate({"a": 0.5, "b": 0.3, "c": 0.2}, 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4
    assert allocate({"a": 0.5, "b": 0.5}, 3) == {"a": 2, "b": 1}  # a tie goes in order


def test_equal_weights_get_equal_tokens_up_to_one():
    tokens = allocate(dict.fromkeys("abcdefg", 1 / 7), 150e9)
    assert sum(tokens.values()) == 150_000_000_000
    assert max(tokens.values()) - min(tokens.values()) == 1


@given(st.permutations(list(MIX)))
def test_order_of_names_does_not_matter(order):
    assert allocate({d: MIX[d] for d in order}, 1e9) == allocate(MIX, 1e9)


def read(form: str, text: str) -> dict[str, float]:
    """Shares by domain, as the reader of that form would find them."""
    if form == "megatron":
        words = text.split()
        return dict(zip(words[1::2], map(float, words[::2]), strict=True))
    if form == "csv":
        return {row["domain"]: float(row["share"]) for row in csv.DictReader(io.StringIO(text))}
    content = json.loads(text) if form in ("json", "huggingface") else yaml.safe_load(text)
    return {
        "json": lambda: content["weights"],
        "yaml": lambda: content["weights"],
        "olmo-core": lambda: {s["source_name"]: s["target_ratio"] for s in content["sources"]},
        "levanter": lambda: content["train_weights"],
        "mosaic": lambda: {d: s["proportion"] for d, s in content["streams"].items()},
        "huggingface": lambda: dict(
            zip(content["datasets"], content["probabilities"], strict=True)
        ),
    }[form]()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_back(form):
    shares = read(form, export_mixture(MIX, form, D=1e9))
    assert math.fsum(shares.values()) == pytest.approx(1, abs=1e-12)
    for domain, share in MIX.items():
        assert shares.get(domain, 0.0) == pytest.approx(share, abs=1e-8)
    if form in ("megatron", "olmo-core", "huggingface", "mosaic"):
        assert "wiki" not in shares


def test_forms_name_data():
    paths = {"web": "/data/web_text_document", "code": "s3://bucket/code"}
    assert "0.25000000 s3://bucket/code\n" in export_mixture(MIX, "megatron", paths=paths)
    olmo = yaml.safe_load(export_mixture(MIX, "olmo-core", paths=paths, epochs=4))["sources"]
    assert olmo[0] == {
        "source_name": "web",
        "target_ratio": pytest.approx(0.6251234567),
        "paths": ["/data/web_text_document"],
        "max_repetition_ratio": 4.0,
    }
    streams = yaml.safe_load(export_mixture(MIX, "mosaic", paths=paths))["streams"]
    assert streams["code"] == {"remote": "s3://bucket/code", "proportion": 0.25}
    assert streams["books"]["local"] == "books"


def test_tables_have_tokens_where_d_is_known():
    assert sum(json.loads(export_mixture(MIX, "json", D=1e9))["tokens"].values()) == 10**9
    assert export_mixture(MIX, "csv").splitlines()[0] == "domain,share"
    assert export_mixture(MIX, "csv", D=10).splitlines()[1] == "web,0.62512346,6"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"form": "toml"}, "no form 'toml'"),
        ({"weights": {"a": 0.5}}, "sum to 0.5"),
        ({"weights": {"a": 1.5, "b": -0.5}}, "'b' has the share -0.5"),
        ({"D": math.inf}, "whole tokens"),
        ({"paths": {"x": "y"}}, "no domain 'x'"),
        ({"form": "megatron", "paths": {"web": "my data"}}, "has a space"),
        ({"epochs": 0.5}, "below 1"),
    ],
)
def test_refusals(change, said):
    with pytest.raises(UserError, match=said):
        export_mixture(**({"weights": MIX, "form": "json"} | change))


def test_rounded_shares_sum_to_one_in_decimal():
    shares = rounded(dict.fromkeys("abc", 1 / 3), 2)
    assert shares == {"a": 0.34, "b": 0.33, "c": 0.33}


def test_caps_follow_supply():
    caps = caps_from_tokens({"wiki": 4e9}, 150e9, ("web", "wiki"), epochs=4, caps={"web": 0.95})
    assert caps == {"web": 0.95, "wiki": pytest.approx(16 / 150)}
    assert caps_from_tokens({"wiki": 4e9}, 1e9, ("web", "wiki")) == {"wiki": 1.0}
    assert caps_from_tokens(
        {"wiki": 3e9, "web": 9e9}, 10e9, ("web", "wiki"), epochs={"wiki": 2}
    ) == {"wiki": pytest.approx(0.6), "web": pytest.approx(0.9)}
    assert epochs_of({"wiki": 0.1, "web": 0.9}, {"wiki": 5e9}, 150e9) == {
        "wiki": pytest.approx(3.0)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokens": {"x": 1e9}}, "no domain 'x'"),
        ({"tokens": {"web": -1.0}}, "not a count"),
        ({"tokens": {"web": 1e9}, "D": None}, "D is missing"),
        ({"tokens": {"web": 1e9, "wiki": 2e9}}, "allow 3e\\+09 of the 1e\\+10"),
        ({"tokens": {"web": 1e9}, "epochs": 0.0}, "not a positive number"),
    ],
)
def test_supply_refusals(options, said):
    with pytest.raises(UserError, match=said):
        caps_from_tokens(**({"D": 1e10, "domains": ("web", "wiki")} | options))
