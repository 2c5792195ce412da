"""The rules of mixjax, blind, on every table at hand: python -m benchmarks.trust (15 minutes).

Scales: `extrapolate` with its defaults is fitted to the smaller scales of a table, and its
intervals are asked for the larger ones; rows that are scored are read by the scorer only. Beside it
stand the plain additive and joint laws (Chinchilla's without mixtures), and regressions of the
logarithm of the loss, linear and quadratic in log N and log D.

Mixtures: 20 draws of 64 of the 512 RegMix mixtures, 5 folds; rank and regret of held-out
predictions, beside ridge regression on (h, sqrt h) and LightGBM.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import mixjax as mj
from benchmarks.common import data, markdown, write_result
from mixjax.data.runs import Runs
from mixjax.data.splits import make_folds
from mixjax.fitting.loss import Huber, Settings
from mixjax.fitting.problem import make_problem
from mixjax.fitting.score import rank_correlation
from mixjax.law import find_law
from mixjax.trust.held_out import fit_splits

Floats = NDArray[np.float64]
Regression = Callable[[Floats, Floats, Floats], Floats]

LEVEL, RESAMPLES = 0.9, 100
DRAWS, MIXTURES = 20, 64
_PLAIN: dict[str, Any] = {"prior": "none"}


class Case(NamedTuple):
    """A table, and which rows are fitted and scored."""

    name: str
    file: str
    fitted: str
    scored: str
    without: tuple[str, ...] = ()  # targets that are on another scale, see the table's README
    residual: str = "loss"


def cases() -> list[Case]:
    """Every table with several scales."""
    small, large = "split == 'train' and N < 7e8", "split == 'train' and N > 9e8"
    train, held = "split == 'train'", "split == 'eval'"
    tables = [
        Case("SlimPajama 3B", "slimpajama.csv", train, held, ("openhermes",)),
        Case("SlimPajama 937M, 1235M", "slimpajama.csv", small, large),
        Case("Ye et al. 1B", "ye_5mix.csv", train, held),
    ]
    for file in ("isoflops_llama3.csv", "isoflops_misfitting.csv"):
        budgets = np.unique(pd.read_csv(data(file))["flop_budget"])
        cut = 0.5 * (budgets[-3] + budgets[-2])
        below, above = f"flop_budget < {cut}", f"flop_budget > {cut}"
        tables.append(Case(file.removesuffix(".csv"), file, below, above, residual="log"))
    return tables


def score_scales(case: Case) -> list[dict[str, Any]]:
    """Errors of every rule on one table, and the coverage of the intervals."""
    runs = mj.read_runs(data(case.file), where=case.fitted)
    targets = tuple(t for t in runs.targets if t not in case.without)
    options: dict[str, Any] = {"targets": targets, "residual": case.residual}
    plain = ("additive", "joint") if runs.domains else ("chinchilla",)
    fits = {f"plain {law}": mj.fit(runs, law, **options, **_PLAIN) for law in plain}
    fits["extrapolate"] = mj.extrapolate(runs, **options).fit
    held_out = mj.read_runs(data(case.file), where=case.scored)
    trust = mj.uncertainty(fits["extrapolate"], runs, held_out.N, held_out.D, resamples=RESAMPLES)
    intervals = trust.intervals(held_out.N, held_out.D, held_out.h, LEVEL)
    predicted = {name: f.predict(held_out.N, held_out.D, held_out.h) for name, f in fits.items()}
    for name, degree in (("log-linear", 1), ("log-quadratic", 2)):
        predicted[name] = {t: _regression(runs, held_out, t, degree) for t in targets}
    rows = []
    for name, losses in predicted.items():
        off = {t: np.abs(losses[t] / held_out.loss(t) - 1) for t in targets}
        row = {
            "table": case.name,
            "rule": name,
            "law": fits[name].law if name in fits else name,
            "error": 100 * float(np.mean([np.nanmean(x) for x in off.values()])),
            "worst target": 100 * float(np.max([np.nanmean(x) for x in off.values()])),
            "worst cell": 100 * float(np.max([np.nanmax(x) for x in off.values()])),
        }
        rows.append(row)
    inside, width, scores = [], [], []
    for t in targets:
        measured = held_out.loss(t)
        seen, i = np.isfinite(measured), intervals[t]
        inside.extend(i.covers(measured)[seen])
        width.extend((i.width / measured)[seen])
        miss = np.maximum(i.low - measured, 0) + np.maximum(measured - i.high, 0)
        scores.extend(((i.width + 2 / (1 - LEVEL) * miss) / measured)[seen])
    own = next(row for row in rows if row["rule"] == "extrapolate")
    own |= {
        "covered": 100 * float(np.mean(inside)),
        "cells": len(inside),
        "median width": 100 * float(np.median(width)),
        "interval score": 100 * float(np.mean(scores)),
        "left out": list(trust.drift.folds),
    }
    return rows


def _regression(runs: Runs, held_out: Runs, target: str, degree: int) -> Floats:
    """Least squares of log loss on shares, log N and log D, up to a degree in the last two."""

    def columns(rows: Runs) -> Floats:
        n, d = (
            np.log(np.asarray(x) / np.mean(np.asarray(of)))
            for x, of in ((rows.N, runs.N), (rows.D, runs.D))
        )
        bend = [n * n, n * d, d * d] if degree == 2 else []
        return np.column_stack([np.ones(len(n)), n, d, *bend, rows.h[:, 1:]])

    seen = np.isfinite(runs.loss(target))
    weights, *_ = np.linalg.lstsq(columns(runs)[seen], np.log(runs.loss(target)[seen]), rcond=None)
    return np.exp(columns(held_out) @ weights)


def ridge(h: Floats, losses: Floats, held_out: Floats) -> Floats:
    """Ridge regression on (h, sqrt h), its strength by leave-one-out."""
    a, b = (np.hstack([x, np.sqrt(x)]) for x in (h, held_out))
    middle, size = a.mean(axis=0), a.std(axis=0) + 1e-9
    a, b = (a - middle) / size, (b - middle) / size
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    out = np.empty((len(b), losses.shape[1]))
    for j, y in enumerate((losses - losses.mean(axis=0)).T):
        best = np.inf
        for strength in np.logspace(-3, 3, 13):
            hat = (u * (s**2 / (s**2 + strength))) @ u.T
            error = float(np.mean(((y - hat @ y) / (1 - np.diag(hat) - 1 / len(y))) ** 2))
            if error < best:
                best = error
                out[:, j] = b @ (vt.T @ (s / (s**2 + strength) * (u.T @ y)))
    return out + losses.mean(axis=0)


def lightgbm(h: Floats, losses: Floats, held_out: Floats) -> Floats:
    """Boosted trees for few rows."""
    import lightgbm as lgb  # pyright: ignore[reportMissingImports]  (the bench extra)

    few = {"learning_rate": 0.05, "num_leaves": 8, "min_data_in_leaf": 3}
    options = {**few, "objective": "regression", "verbose": -1, "seed": 0, "num_threads": 1}
    out = np.empty((len(held_out), losses.shape[1]))
    for j, y in enumerate(losses.T):
        table = lgb.Dataset(h, y, params={"verbose": -1, "min_data_in_bin": 1})
        out[:, j] = np.asarray(lgb.train(options, table, num_boost_round=200).predict(held_out))
    return out


def score_mixtures() -> list[dict[str, Any]]:
    """Rank and regret of every rule, mean over draws, targets and folds' held-out rows."""
    table = mj.read_runs(data("regmix_1m_train.csv"))
    rules: dict[str, Any] = {
        "additive_fixed_nd": {},
        "additive_fixed_nd, prior none": _PLAIN,
        "ridge": ridge,
    }
    try:
        lightgbm(np.eye(4), np.ones((4, 1)), np.eye(4))
        rules["LightGBM"] = lightgbm
    except ImportError:
        print("LightGBM is not installed: left out")
    ranks: dict[str, list[float]] = {name: [] for name in rules}
    regrets: dict[str, list[float]] = {name: [] for name in rules}
    for draw in range(DRAWS):
        which = np.zeros(len(table), dtype=bool)
        which[np.random.default_rng(draw).choice(len(table), MIXTURES, replace=False)] = True
        runs = table.select(which)
        losses = np.stack([runs.loss(t) for t in runs.targets], axis=1)
        folds = make_folds(runs, "mixture", 5, draw)
        for name, rule in rules.items():
            predicted = np.empty_like(losses)
            if callable(rule):
                for fold in folds:
                    out = fold.held_out
                    predicted[out] = np.asarray(rule(runs.h[~out], losses[~out], runs.h[out]))
            else:
                huber = Huber(**rule)
                problem = make_problem(runs, find_law("additive_fixed_nd"), None, huber)
                weights = np.stack([fold.weights for fold in folds])
                fits = fit_splits(problem, weights, Settings(16, 0), polish=True)
                for j, t in enumerate(runs.targets):
                    for fold, own in zip(folds, fits.losses(t, runs), strict=True):
                        predicted[fold.held_out, j] = own[fold.held_out]
            each = list(zip(predicted.T, losses.T, strict=True))
            ranks[name].append(float(np.mean([rank_correlation(p, m) or 0.0 for p, m in each])))
            regret = [m[np.argmin(p)] / m.min() - 1 for p, m in each]
            regrets[name].append(100 * float(np.mean(regret)))
    return [
        {"rule": n, "rank": float(np.mean(ranks[n])), "regret": float(np.mean(regrets[n]))}
        for n in rules
    ]


def main() -> None:
    """Every table, then RegMix."""
    warnings.simplefilter("ignore", mj.MixjaxWarning)
    scales = []
    for case in cases():
        rows = score_scales(case)
        scales += rows
        keys = ("rule", "error", "worst target", "worst cell", "covered", "median width")
        shown = [[r["rule"], *(f"{r[k]:.2f}" if k in r else "" for k in keys[1:])] for r in rows]
        print(f"\n{case.name}: {rows[-3]['law']}\n{markdown(list(keys), shown)}", flush=True)
    mixtures = score_mixtures()
    shown = [[r["rule"], f"{r['rank']:.4f}", f"{r['regret']:.2f}"] for r in mixtures]
    print(markdown(["rule", "rank", "regret %"], shown))
    covered = [(r["covered"], r["cells"]) for r in scales if "covered" in r]
    pooled = sum(c * n for c, n in covered) / sum(n for _, n in covered)
    print(f"{pooled:.1f} percent of {sum(n for _, n in covered)} cells covered")
    write_result("trust", {"scales": scales, "mixtures": mixtures, "pooled coverage": pooled})


if __name__ == "__main__":
    main()
