"""Runs from known parameters (law -> RUNS): for the demo, tests and benchmarks. Nothing here was
measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.design import design_mixtures
from mixjax.errors import UserError
from mixjax.fitting.record import Fit, Search, Status
from mixjax.text import table

if TYPE_CHECKING:
    import pandas as pd

    from mixjax.law import Law

Floats = NDArray[np.float64]

# Noise of measured losses: variance shares of what the checkpoints of a run have in common, and of
# that what its targets have in common; a little heavier than normal.
_OF_RUN, _OF_TARGETS = 0.4, 0.5
_FREEDOM = 5


@dataclass(frozen=True)
class Simulated:
    """A simulated table in the common schema, with a column `split`, and the law behind it."""

    table: pd.DataFrame
    truth: Fit


def simulate_runs(
    truth: Fit,
    h: ArrayLike | None = None,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    *,
    noise: float = 0.003,
    seed: int = 0,
    run: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Losses that runs of these mixtures and scales would show if `truth` were true.

        loss = truth * (1 + noise * (sqrt(0.4) of_run + sqrt(0.6) of_evaluation))

    with of_run shared by the rows of one run and correlated (0.5) over targets; both are of unit
    variance, Student's t.

    Args:
        truth: a fit, or `known_fit`, or `random_truth`.
        h: domain weights (rows, k), in the order of the truth's domains.
        N, D: counts, () or (rows,); may be left out where the law does not read them.
        noise: standard deviation of one evaluation relative to its loss; 0 for the law itself.
        seed: of the noise.
        run: id of the training run of each row; by default rows of one mixture and N are one run.

    Returns:
        Table of columns run, N, D, h_<domain>, loss_<target>; N or D only where given.

    Raises:
        UserError: noise below 0, or what `Fit.predict` refuses.
    """
    import pandas as pd

    if not (np.isfinite(noise) and noise >= 0):
        what = f"{noise} is not a number of at least 0"
        raise UserError("noise", what, "give a relative size, e.g. 0.003")
    losses = np.stack([np.atleast_1d(loss) for loss in truth.predict(N, D, h).values()], axis=1)
    rows = len(losses)
    columns: dict[str, Any] = {
        name: np.broadcast_to(np.asarray(x, dtype=np.float64), rows)
        for name, x in (("N", N), ("D", D))
        if x is not None
    }
    shares = np.zeros(0) if h is None else np.asarray(h, dtype=np.float64)
    shares = np.broadcast_to(shares, (rows, len(truth.domains)))
    columns |= {f"h_{d}": shares[:, i] for i, d in enumerate(truth.domains)}
    run_of = _runs(columns, run, rows)
    number = np.unique(run_of, return_inverse=True)[1]
    off = _noise(np.random.default_rng(seed), number, len(truth.targets))
    losses = losses * (1.0 + noise * off)
    columns |= {f"loss_{t}": losses[:, g] for g, t in enumerate(truth.targets)}
    return pd.DataFrame({"run": run_of} | columns)


def _runs(columns: Mapping[str, Floats], run: Sequence[str] | None, rows: int) -> NDArray[np.str_]:
    """Id of the training run of each row."""
    if run is not None:
        return np.broadcast_to(np.asarray(run, dtype=np.str_), rows)
    what = np.stack([np.zeros(rows), *(x for name, x in columns.items() if name != "D")], axis=1)
    _, which = np.unique(what, axis=0, return_inverse=True)
    return np.array([f"r{i:03d}" for i in which.reshape(-1)])


def _noise(rng: np.random.Generator, run: NDArray[np.intp], targets: int) -> Floats:
    """Relative noise (rows, targets) of unit variance; run (rows,) numbers the runs."""

    def draw(*shape: int) -> Floats:
        return rng.standard_t(_FREEDOM, shape) * np.sqrt((_FREEDOM - 2) / _FREEDOM)

    runs = int(run.max()) + 1
    of_run = np.sqrt(_OF_TARGETS) * draw(runs, 1) + np.sqrt(1 - _OF_TARGETS) * draw(runs, targets)
    return np.sqrt(_OF_RUN) * of_run[run] + np.sqrt(1 - _OF_RUN) * draw(len(run), targets)


def known_fit(
    law: str | Law,
    domains: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, Any] | None = None,
) -> Fit:
    """A `Fit` of given parameters, {target: {parameter: value}}, in the law's own form."""
    from mixjax.law import find_law, is_built_in

    record = find_law(law)
    return Fit(
        law=record.name,
        domains=tuple(domains),
        targets=tuple(params),
        params=params,
        objective=dict.fromkeys(params, 0.0),
        search=dict.fromkeys(params, Search(Status.KNOWN)),
        units=record.units,
        made=dict(made or {"simulated": True}),
        own_law=None if is_built_in(record.name) else record,
    )


# Exponents 1/gamma of brackets are kept off 0, where a bracket is an exponential and gamma
# infinite.
_S = (0.5, 1.5)
# Part of a start range, in its own coordinate, that a random truth is drawn from.
_MIDDLE = (0.3, 0.7)
_SCALE = (1e9, 1e10, 3.0)  # N, D (counts) and loss around which it is plausible


def random_truth(law: str | Law, k: int, targets: Sequence[str], seed: int = 0) -> Fit:
    """Plausible random parameters of a law, from the middle of their start ranges, for N around
    1e9, D around 1e10 and losses around 3.

    Args:
        k: number of domains, called d0, d1, ...
        targets: names; among the domains for laws of a target's own domain.
        seed: same seed, same parameters.
    """
    from mixjax.law import find_law

    record = find_law(law)
    rng = np.random.default_rng(seed)
    return known_fit(
        record,
        [f"d{i}" for i in range(k)],
        {t: _draw(record, k, rng) for t in targets},
        {"simulated": True, "seed": seed},
    )


def _draw(law: Law, k: int, rng: np.random.Generator) -> dict[str, Any]:
    """One random parameter set in the law's own form and units."""
    from mixjax.law.base import Units, searched

    coordinates = searched(law)
    params: dict[str, Any] = {}
    for p in coordinates.parameters:
        low, high = np.log(p.start) if p.domain == "positive" else p.start
        shape = (1 if law.own_domain else k,) * len(p.shape)
        value = low + (high - low) * rng.uniform(*_MIDDLE, shape)
        if p.domain == "inverse":
            value = rng.choice([-1.0, 1.0]) * rng.uniform(*_S)
        params[p.name] = np.exp(value) if p.domain == "positive" else value
    params = coordinates.to_law(params)
    if law.rescale:
        n, d, loss = _SCALE
        params = law.rescale(params, Units(n / law.units[0], d / law.units[1], loss))
    return {
        p.name: np.asarray(params[p.name]) if p.shape else float(params[p.name])
        for p in law.parameters
    }


def recovery_table(found: Mapping[str, Any]) -> str:
    """The truth beside what was found, as `recovery` tells it."""
    rows = [[d, f"{w['true']:.4f}", f"{w['found']:.4f}"] for d, w in found["weights"].items()]
    shown = ("E", "alpha", "beta")
    params = [
        [t, *(f"{p[name][which]:.4f}" for name in shown for which in ("true", "found"))]
        for t, p in found["params"].items()
    ]
    head = ["target", *(f"{name} {which}" for name in shown for which in ("true", "found"))]
    cost = found["objective"]
    return (
        f"The best mixture, by the true law and as found:\n"
        f"{table(['domain', 'true', 'found'], rows)}\n"
        f"True objective (sum of losses) of the mixture found: {cost['found']:.6f}, of the true "
        f"best: {cost['true']:.6f}, regret {found['regret']:.1e}.\n\n"
        f"Some parameters, true and found:\n{table(head, params)}"
    )


# --- The demo: an invented experiment of the usual kind ------------------------------------------

DOMAINS = ("web", "code", "books", "wiki", "papers")
# How much a token of each domain helps each target; the last target is not a training domain.
_HELPS = {
    "web": (1.00, 0.05, 0.25, 0.30, 0.10),
    "code": (0.06, 1.00, 0.02, 0.04, 0.12),
    "books": (0.60, 0.03, 1.00, 0.25, 0.10),
    "wiki": (0.30, 0.05, 0.25, 1.00, 0.20),
    "papers": (0.20, 0.15, 0.10, 0.40, 1.00),
    "instruct": (0.70, 0.45, 0.10, 0.30, 0.05),
}
# E; 1 / C of the domain that helps most; A, alpha, gamma_A; B, beta, gamma_B: of the size of
# published fits, N and D as counts.
_SCALARS = {
    "web": (1.85, 0.30, 406.0, 0.34, 0.8, 1200.0, 0.35, 0.7),
    "code": (1.20, 0.35, 260.0, 0.33, 1.3, 2000.0, 0.37, 1.1),
    "books": (2.00, 0.22, 380.0, 0.33, -0.9, 1500.0, 0.36, 0.8),
    "wiki": (1.50, 0.35, 300.0, 0.33, 0.6, 2300.0, 0.37, -0.8),
    "papers": (1.45, 0.25, 240.0, 0.32, 1.1, 1300.0, 0.35, 0.9),
    "instruct": (1.25, 0.35, 350.0, 0.34, 0.9, 1000.0, 0.34, 1.2),
}
# Exponents of a domain's share, by target.
_GAMMA = {
    "web": (0.60, 0.80, 0.50, 0.45, 0.70),
    "code": (0.60, 0.40, 0.90, 0.70, 0.55),
    "books": (0.55, 0.85, 0.30, 0.60, 0.70),
    "wiki": (0.55, 0.75, 0.45, 0.50, 0.50),
    "papers": (0.60, 0.65, 0.70, 0.50, 0.25),
    "instruct": (0.65, 0.50, 0.70, 0.45, 0.80),
}
# N, tokens of a whole run, mixtures trained. Checkpoints are evenly spaced in tokens.
_TRAINED = ((1.2e8, 1.0e10, 40), (2.5e8, 1.5e10, 40), (5e8, 2.5e10, 20), (1e9, 5e10, 10))
_HELD_OUT = (3e9, 1e11)
_CHECKPOINTS = 8
_MINIMUM = 0.02


def demo_truth() -> Fit:
    """The joint law behind `demo_runs`: 5 domains, 6 targets, nats per token. Invented numbers."""
    params = {}
    for target, (E, unit, A, alpha, gamma_A, B, beta, gamma_B) in _SCALARS.items():
        helps = np.array(_HELPS[target])
        params[target] = {
            "E": E,
            "C": helps / unit,
            "gamma": np.array(_GAMMA[target]),
            "C_A": (A * (1 - 0.3 * helps)) ** (1 / gamma_A),
            "gamma_A": gamma_A,
            "alpha": alpha,
            "C_B": (B * (1 - 0.4 * helps)) ** (1 / gamma_B),
            "gamma_B": gamma_B,
            "beta": beta,
        }
    return known_fit("joint", DOMAINS, params)


def demo_runs(seed: int = 0) -> Simulated:
    """A simulated experiment of the paper's kind: 880 train rows, 32 eval rows, known truth.

    THE LOSSES ARE SIMULATED: `demo_truth` plus noise of 0.3 percent; no model was trained. Four
    sizes from 1.2e8 to 1e9 with 40, 40, 20 and 10 mixtures (nested) and 8 checkpoints a run are
    split "train"; one size of 3e9, tokens up to 1e11, with 4 mixtures, of which the last is new, is
    split "eval".

    Args:
        seed: of the mixtures and of the noise.
    """
    truth = demo_truth()
    mixtures = design_mixtures(DOMAINS, 41, minimum=_MINIMUM, seed=seed).to_numpy()
    experiments = [(N, D, range(count), "train") for N, D, count in _TRAINED] + [
        (*_HELD_OUT, (0, 12, 25, 40), "eval")
    ]
    rows = [
        (N, D * step / _CHECKPOINTS, m, f"n{N / 1e6:.0f}m-m{m:02d}", split)
        for N, D, which, split in experiments
        for m in which
        for step in range(1, _CHECKPOINTS + 1)
    ]
    N, D, m, run, split = (list(column) for column in zip(*rows, strict=True))
    table = simulate_runs(truth, mixtures[m], N, D, seed=seed, run=run)
    table.insert(1, "split", split)
    return Simulated(table, truth)
