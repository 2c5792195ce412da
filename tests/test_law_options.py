"""Other limits on a law's parameters, by name: an E of any sign, exponents of shares that are not
negative."""

from __future__ import annotations

import numpy as np
import pytest

import mixjax as mj
from mixjax.cli import main
from mixjax.fitting.simulate import known_fit, simulate_runs
from mixjax.law import find_law

QUICK = {"starts": 16, "hops": 0}


def of_names(law: mj.Law, name: str) -> set[str]:
    places = [law.parameters, *([] if law.coordinates is None else [law.coordinates.parameters])]
    return {p.domain for parameters in places for p in parameters if p.name == name}


def test_an_option_changes_the_domain_in_both_coordinates_and_nothing_else():
    plain, free, positive = (
        find_law(name) for name in ("joint", "joint@free-E", "joint@positive-gamma")
    )
    assert (of_names(plain, "E"), of_names(free, "E")) == ({"positive"}, {"real"})
    assert (of_names(plain, "gamma"), of_names(positive, "gamma")) == ({"real"}, {"positive"})
    assert of_names(free, "gamma") == {"real"}
    assert of_names(positive, "gamma_A") == {"real"}
    assert free.count(7) == plain.count(7)


@pytest.mark.parametrize("name", ["joint@2e9@free-E", "joint@free-E@2e9"])
def test_options_and_a_lag_go_together(name):
    law = find_law(name)
    assert (law.name, law.lag, of_names(law, "E")) == ("joint@2e9@free-E", 2e9, {"real"})


@pytest.mark.parametrize(
    "name", ["simple@positive-gamma", "joint@free-E@free-E", "joint@free-A", "joint@"]
)
def test_what_a_law_does_not_have_is_refused(name):
    with pytest.raises(mj.UserError, match="not an option of law"):
        find_law(name)


def table(E: float, gamma: list[float]):
    params = {
        "E": E,
        "C": np.array([0.4, 0.25]),
        "gamma": np.array(gamma),
        "A": 0.5,
        "alpha": 0.35,
        "B": 0.8,
        "beta": 0.4,
    }
    fit = known_fit("additive@free-E", ("web", "code"), {"t": params})
    h = np.array([[w, 1 - w] for w in (0.1, 0.3, 0.5, 0.7, 0.9)])
    rows = [(n, d, one) for n in (2e8, 5e8, 1e9) for d in (4e9, 1e10, 2e10) for one in h]
    N, D, weights = (np.array(column) for column in zip(*rows, strict=True))
    return simulate_runs(fit, weights, N, D, noise=0.0, seed=0)


def test_a_negative_floor_is_found_where_it_is_allowed(tmp_path):
    runs = table(-0.6, [0.4, 0.7])
    free = mj.fit(runs, "additive@free-E", **QUICK)
    plain = mj.fit(runs, "additive", prior="none", **QUICK)
    assert free.params["t"]["E"] == pytest.approx(-0.6, abs=1e-3)
    # A positive floor ends at the edge of what is allowed, 0.
    assert plain.params["t"]["E"] < 1e-3
    assert free.objective["t"] < 1e-3 * plain.objective["t"]
    free.save(tmp_path / "fit.json")
    loaded = mj.load_fit(tmp_path / "fit.json")
    assert loaded.law == "additive@free-E"
    np.testing.assert_array_equal(
        loaded.predict(1e9, 1e10, [0.5, 0.5])["t"], free.predict(1e9, 1e10, [0.5, 0.5])["t"]
    )


def test_exponents_stay_positive_where_that_is_asked():
    runs = table(0.6, [-0.2, 0.7])
    assert mj.fit(runs, "additive", **QUICK).params["t"]["gamma"].min() < 0
    held = mj.fit(runs, "additive@positive-gamma", **QUICK)
    assert held.params["t"]["gamma"].min() > 0
    assert np.isfinite(held.objective["t"])


def test_the_command_takes_them(tmp_path, capsys):
    table(-0.6, [0.4, 0.7]).to_csv(tmp_path / "runs.csv", index=False)
    words = ["fit", str(tmp_path / "runs.csv"), "--starts", "8", "-o", str(tmp_path / "fit.json")]
    assert main([*words, "--law", "additive@free-E"]) == 0
    assert main([*words, "--law", "additive@free-Q"]) == 2
    assert "additive@free-E" in capsys.readouterr().err
