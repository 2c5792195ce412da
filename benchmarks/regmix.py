"""Claim: on RegMix a mixture law ranks unseen mixtures at least as well as the LightGBM regression
of the RegMix paper.

    python -m benchmarks.regmix

512 models of 1M parameters, 17 domains, 13 targets; Spearman's rank correlation of predicted and
measured losses on the 256 test mixtures. Every law of h at one (N, D) is fitted to the 512 rows;
the law and the options of its fit are chosen by 5-fold cross-validation on these rows, one choice
for all targets, before a test row is read. 45 percent of the shares are exactly 0.

LightGBM has the settings of Liu et al. 2024 (arXiv 2407.01492, their published notebook): 1000
rounds, learning rate 0.01, the rest by default. Their notebook stops early by the rows that it is
judged on; both are reported, with and without that.

Writes results/regmix.json and results/regmix.md. Needs the extra `bench`.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mixjax as mj
from benchmarks.common import RESULTS, data, markdown, write_result
from mixjax.data.runs import Runs
from mixjax.fitting.score import rank_correlation

Floats = NDArray[np.float64]


class Option(NamedTuple):
    """A law and how it is fitted."""

    law: str
    residual: str = "loss"
    delta: float = 1e-3

    @property
    def label(self) -> str:
        """In one phrase."""
        return f"{self.law}, {self.residual}, delta {self.delta:g}"


# At one (N, D) the terms in N and D of the simple law are constants. The joint law's run off to
# infinity: benchmarks/NOTES.md, "RegMix".
LAWS = ("additive_fixed_nd", "ye_m1", "ye_m2", "ye_m3", "ye_m4", "ge24", "simple")
# Other residuals for the two laws that cross-validation ranks highest as they are.
VARIED = (("loss", 1e-1), ("log", 1e-3), ("log", 1e-2))
FINALISTS = 2
FOLDS = 5
SEARCH: dict[str, Any] = {"starts": 12, "hops": 0, "prior": "none"}
LIGHTGBM = {
    "boosting": "gbdt",
    "objective": "regression",
    "metric": ["l1", "l2"],
    "seed": 42,
    "learning_rate": 1e-2,
    "verbosity": -1,
    "num_threads": 1,
}
ROUNDS, PATIENCE = 1000, 3


def ranked(predicted: dict[str, Floats], runs: Runs) -> dict[str, float]:
    """Rank correlation of each target; a prediction that is not a number ranks last."""
    out = {}
    for t in runs.targets:
        p = predicted[t]
        rank = rank_correlation(np.where(np.isfinite(p), p, np.inf), runs.loss(t))
        out[t] = 0.0 if rank is None else rank  # a law that is constant ranks nothing
    return out


def mean(values: dict[str, float]) -> float:
    return float(np.mean(list(values.values())))


def held_out(runs: Runs, option: Option) -> dict[str, float]:
    """Rank correlations of the predictions that the folds' fits make of the rows they have not
    seen."""
    found = mj.cross_validate(
        runs,
        option.law,
        "mixture",
        folds=FOLDS,
        residual=option.residual,
        delta=option.delta,
        **SEARCH,
    )
    return ranked(dict(found.predicted), runs)


def on_test(train: Runs, test: Runs, option: Option) -> tuple[dict[str, float], dict[str, Floats]]:
    """The same of the test mixtures, and their predictions, by a fit of all training rows."""
    fit = mj.fit(train, option.law, residual=option.residual, delta=option.delta, **SEARCH)
    predicted = fit.predict(test.N, test.D, test.h)
    return ranked(predicted, test), predicted


def lightgbm(train: Runs, test: Runs, early: bool) -> dict[str, float]:
    """Rank correlations of LightGBM on the test mixtures; early: it stops where the error on these
    very rows rises."""
    import lightgbm as lgb  # pyright: ignore[reportMissingImports]  (the bench extra)

    predicted = {}
    for t in train.targets:
        rows = lgb.Dataset(train.h, train.loss(t))
        judge = lgb.Dataset(test.h, test.loss(t), reference=rows)
        stop: dict[str, Any] = (
            {"valid_sets": [judge], "callbacks": [lgb.early_stopping(PATIENCE, verbose=False)]}
            if early
            else {}
        )
        predicted[t] = np.asarray(lgb.train(LIGHTGBM, rows, ROUNDS, **stop).predict(test.h))
    return ranked(predicted, test)


def held_out_lightgbm(train: Runs) -> dict[str, float]:
    """LightGBM on the same folds as the laws."""
    import lightgbm as lgb  # pyright: ignore[reportMissingImports]  (the bench extra)

    from mixjax.data.splits import make_folds

    predicted = {t: np.full(len(train), np.nan) for t in train.targets}
    for fold in make_folds(train, "mixture", FOLDS):
        for t, out in predicted.items():
            rows = lgb.Dataset(train.h[~fold.held_out], train.loss(t)[~fold.held_out])
            out[fold.held_out] = lgb.train(LIGHTGBM, rows, ROUNDS).predict(train.h[fold.held_out])
    return ranked(predicted, train)


def choose(train: Runs) -> dict[Option, dict[str, float]]:
    """Cross-validated rank correlations: every law as it is, then other residuals for the best of
    them."""
    found: dict[Option, dict[str, float]] = {}

    def add(option: Option) -> None:
        began = time.perf_counter()
        try:
            found[option] = held_out(train, option)
        except mj.UserError as error:  # a law may run off to infinity
            print(f"{option.label}: {error}", flush=True)
            return
        print(
            (
                f"{option.label}: {mean(found[option]):.5f} cross-validated, "
                f"{time.perf_counter() - began:.0f} s"
            ),
            flush=True,
        )

    for law in LAWS:
        add(Option(law))
    for first in sorted(found, key=lambda o: -mean(found[o]))[:FINALISTS]:
        for residual, delta in VARIED:
            add(Option(first.law, residual, delta))
    return found


def main() -> None:
    """Measure, print, write."""
    warnings.simplefilter("ignore", mj.MixjaxWarning)
    train, test = (
        mj.read_runs(data("regmix_1m_train.csv")),
        mj.read_runs(data("regmix_1m_test.csv")),
    )
    boosted = {
        "LightGBM": lightgbm(train, test, early=False),
        "LightGBM, stopped by the test rows": lightgbm(train, test, early=True),
    }
    boosted_held_out = held_out_lightgbm(train)
    for name, ranks in boosted.items():
        print(f"{name}: {mean(ranks):.5f} on the test mixtures", flush=True)
    cross = choose(train)
    chosen = max(cross, key=lambda o: mean(cross[o]))
    print(f"chosen: {chosen.label}")
    options = list(dict.fromkeys([*(o for o in cross if o in map(Option, LAWS)), chosen]))
    tested = {option: on_test(train, test, option)[0] for option in options}
    best = tested[chosen]
    columns = {"chosen law": best, **boosted}
    rows = [[t, *(f"{c[t]:.4f}" for c in columns.values())] for t in train.targets]
    per_target = markdown(
        ["target", *columns],
        [*rows, ["**mean**", *(f"**{mean(c):.4f}**" for c in columns.values())]],
    )
    per_law = markdown(
        ["law, residual, delta", "cross-validated on the 512", "256 test mixtures"],
        [
            [o.label, f"{mean(cross[o]):.4f}", f"{mean(tested[o]):.4f}" if o in tested else ""]
            for o in sorted(cross, key=lambda o: -mean(cross[o]))
        ]
        + [["LightGBM", f"{mean(boosted_held_out):.4f}", f"{mean(boosted['LightGBM']):.4f}"]],
    )
    holds = mean(best) >= max(mean(ranks) for ranks in boosted.values())
    verdict = (
        f"Chosen by cross-validation: {chosen.label}. At least as high as LightGBM, "
        "both ways: "
        f"{'yes' if holds else 'NO'}."
    )
    text = "\n\n".join([verdict, per_target, per_law])
    by_label = {o.label: r for o, r in cross.items()} | {"LightGBM": boosted_held_out}
    on_the_test = {o.label: r for o, r in tested.items()} | boosted
    result = {
        "chosen": chosen._asdict(),
        "holds": holds,
        "cross_validated": {name: {"mean": mean(r), "targets": r} for name, r in by_label.items()},
        "test": {name: {"mean": mean(r), "targets": r} for name, r in on_the_test.items()},
    }
    path = write_result("regmix", result)
    (RESULTS / "regmix.md").write_text(text + "\n", encoding="utf-8")
    print(text, f"\nwritten: {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
