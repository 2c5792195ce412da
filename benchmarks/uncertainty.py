"""Do intervals hold what they promise, and what do they cost: python -m benchmarks.uncertainty
[simulated|measured|refits|small]

- simulated: 500 simulated tables (joint law, 4 domains, 20 mixtures), nominal 90 percent, held-out
  rows and best mixtures;
- measured: the 3B rows of the SlimPajama runs, from the training rows alone, by the joint law and
  by the one that `extrapolate` chooses, and the rows of the largest training size from the smaller
  ones;
- refits: 1000 resamples of 8 targets timed; standard errors against refits from random starts;
- small: `decide` on 20 simulated tables of 40 runs (joint law, 15 mixtures of 3 domains, 4 sizes,
  one row a run, D in proportion to N), for 7e9 parameters: what its mixture truly loses.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import mixjax as mj
from benchmarks.common import data, markdown, write_result
from mixjax.data.runs import Runs
from mixjax.data.splits import clusters, resample
from mixjax.fitting.loss import Settings
from mixjax.fitting.problem import grouped, make_problem, to_paper
from mixjax.fitting.record import Fit
from mixjax.fitting.search import draw_starts, search
from mixjax.fitting.simulate import known_fit, random_truth, simulate_runs
from mixjax.law import find_law
from mixjax.trust.drift import measure_drift, reach_of
from mixjax.trust.ensemble import TOLERANCE, Ensemble, bootstrap, refit
from mixjax.trust.intervals import Uncertainty, best_mixture, noise_of, uncertainty

LEVEL = 0.9
DOMAINS = 4
# N, tokens of a whole run, mixtures.
TRAINED = ((2e8, 8e9, 20), (4e8, 1.2e10, 20), (8e8, 2e10, 20), (1.6e9, 4e10, 10))
LARGER = (3.5e9, 9e10)
CHECKPOINTS = range(2, 7)  # of 6
NOISE = 0.003
RESAMPLES = 60


def scale_rows(
    scales: list[tuple[float, float, list[int]]], mixtures: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """h (rows, k), N, D (rows,): checkpoints of every mixture at every scale."""
    rows = [
        (N, D * c / CHECKPOINTS[-1], m)
        for N, D, which in scales
        for m in which
        for c in CHECKPOINTS
    ]
    N, D, m = (np.array(column) for column in zip(*rows, strict=True))
    return mixtures[m], N, D


def one_table(
    truths: list[Fit], rows: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> Runs:
    """Many simulated tables of the same design as targets t0, t1, ... of one: each from its own
    truth, with its own noise."""
    tables = [
        simulate_runs(truth, *rows, noise=NOISE, seed=seed + i) for i, truth in enumerate(truths)
    ]
    losses = pd.DataFrame({f"loss_t{i}": t["loss_t"] for i, t in enumerate(tables)})
    return mj.read_runs(pd.concat([tables[0].drop(columns="loss_t"), losses], axis=1))


def simulated(tables: int, best: int) -> dict[str, Any]:
    """Coverage over simulated tables. Every table is treated alone: its drift is measured on its
    own rows."""
    domains = [f"d{i}" for i in range(DOMAINS)]
    mixtures = mj.design_mixtures(domains, 28, minimum=0.02, seed=0).to_numpy()
    truths = [random_truth("joint", DOMAINS, ["t"], seed=i) for i in range(tables)]
    runs = one_table(
        truths, scale_rows([(N, D, list(range(q))) for N, D, q in TRAINED], mixtures), 10_000
    )
    held = {
        "new mixtures, trained scale": one_table(
            truths, scale_rows([(*TRAINED[2][:2], list(range(20, 28)))], mixtures), 20_000
        ),
        "larger scale": one_table(
            truths, scale_rows([(*LARGER, [0, 5, 21, 24])], mixtures), 30_000
        ),
    }
    began = time.perf_counter()
    fit = mj.fit(runs, "joint", starts=48, hops=1)
    members = bootstrap(fit, runs, RESAMPLES, "run", 0)
    noise, number = noise_of(fit, runs), int(clusters(runs, "run").max()) + 1
    sizes = {t: float(np.sqrt(np.mean(x**2))) for t, x in noise.items()}
    drift = measure_drift(fit, runs, sizes, 0, lambda share: None)
    seconds = time.perf_counter() - began
    trust = [
        Uncertainty(
            members.only((t,)),
            {t: noise[t]},
            replace(drift, rates={t: drift.rates[t]}),
            reach_of(fit, runs),
            number,
            runs.h.min(axis=0),
            0,
        )
        for t in fit.targets
    ]
    found: dict[str, Any] = {}
    for name, table in held.items():
        covered, widths, law = [], [], []
        for i, u in enumerate(trust):
            t = f"t{i}"
            interval = u.intervals(table.N, table.D, table.h)[t]
            covered.append(interval.covers(table.loss(t)).mean())
            widths.append(np.median(interval.width / interval.predicted))
            without = u.intervals(table.N, table.D, table.h, new_rows=False)[t]
            law.append(without.covers(truths[i].predict(table.N, table.D, table.h)["t"]).mean())
        found[name] = {
            "rows": float(np.mean(covered)),
            "law": float(np.mean(law)),
            "median width percent": float(100 * np.median(widths)),
        }
    hits, regrets = [], []
    for i, u in list(enumerate(trust))[:best]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            true = mj.optimal_mixture(truths[i], *LARGER)
            interval = best_mixture(u, mj.Question(u.fit, *LARGER))
        at = truths[i].predict(*LARGER, np.array(list(interval.best.weights.values())))["t"]
        hits.append(interval.objective[0] <= true.objective <= interval.objective[1])
        regrets.append(float(at) - true.objective <= interval.regret)
    found["best mixture"] = {
        "tables": best,
        "objective": float(np.mean(hits)),
        "regret bound": float(np.mean(regrets)),
    }
    print(
        markdown(
            ["held out", "rows covered", "law covered", "median width, percent"],
            [[n, *(f"{v:.3f}" for v in f.values())] for n, f in found.items() if n in held],
        )
    )
    print(
        f"objective of the best mixture covered {np.mean(hits):.3f}, regret bound kept "
        f"{np.mean(regrets):.3f} ({best} tables); {seconds:.0f} s of fits"
    )
    return {"tables": tables, "resamples": RESAMPLES, "level": LEVEL, "seconds": seconds, **found}


def measured() -> dict[str, Any]:
    """Coverage of the 3B rows, and of the largest training size by a fit of the smaller ones."""
    found: dict[str, Any] = {}
    for name, train, held, chosen in (
        (
            "largest training size (1235M)",
            "split == 'train' and N < 1e9",
            "split == 'train' and N > 1e9",
            False,
        ),
        ("3B", "split == 'train'", "split == 'eval'", False),
        ("3B, law of `extrapolate`", "split == 'train'", "split == 'eval'", True),
    ):
        runs, table = (mj.read_runs(data("slimpajama.csv"), where=q) for q in (train, held))
        fit = mj.extrapolate(runs).fit if chosen else mj.fit(runs, "joint")
        u = uncertainty(fit, runs, table.N, table.D)
        intervals = u.intervals(table.N, table.D, table.h)
        rows, domains = [], []
        for t in fit.targets:
            seen = np.isfinite(table.loss(t))
            covered = float(intervals[t].covers(table.loss(t))[seen].mean())
            width = float(100 * np.median(intervals[t].width / intervals[t].predicted))
            rows.append(
                [
                    t,
                    f"{covered:.3f}",
                    f"{width:.2f}",
                    ", ".join(f"{100 * x:.2f}" for x in u.drift.rates[t]),
                ]
            )
            found.setdefault(name, {})[t] = {
                "covered": covered,
                "median width percent": width,
                "drift percent": (100 * u.drift.rates[t]).tolist(),
            }
            domains += [covered] if t in fit.domains else []
        found[name] |= {
            "law": fit.law,
            "mean of the 7 domains": float(np.mean(domains)),
            "left out": u.held_out,
        }
        print(
            f"\n{name}: {np.mean(domains):.3f} of the rows of the 7 domains; drift "
            f"measured beyond {u.held_out or 'nothing'}"
        )
        print(markdown(["target", "covered", "median width, percent", "drift, percent"], rows))
    return found


def refits(resamples: int, checked: int) -> dict[str, Any]:
    """The time of a bootstrap, and its standard errors against those of refits from random
    starts."""
    runs, table = (
        mj.read_runs(data("slimpajama.csv"), where=f"split == '{s}'") for s in ("train", "eval")
    )
    fit = mj.fit(runs, "joint")
    weights = resample(runs, resamples)
    refit(fit, runs, weights[:2])  # compiles
    began, spent = time.perf_counter(), time.process_time()
    members = refit(fit, runs, weights, tolerance=TOLERANCE)
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    print(
        f"{resamples} resamples of {len(fit.targets)} targets: {seconds:.0f} s, "
        f"{spent:.0f} s of all cores together"
    )
    problem = make_problem(runs, find_law("joint"), fit.targets, fit.huber)
    starts = draw_starts(problem, Settings(seed=1), copies=checked)
    full = search(problem.objective, grouped(problem, weights[:checked]), starts, 2).best
    lowest = refit(fit, runs, weights[:checked])
    at = full.z[np.arange(len(full.z)), full.f.argmin(axis=1)].reshape(
        len(fit.targets), checked, -1
    )
    sets = {t: [to_paper(problem, g, one) for one in at[g]] for g, t in enumerate(fit.targets)}
    params = {
        t: {name: np.stack([np.asarray(s[name]) for s in sets[t]]) for name in fit.params[t]}
        for t in fit.targets
    }
    full_members = Ensemble(fit, params, {t: np.zeros(checked) for t in fit.targets})
    found: dict[str, Any] = {
        "resamples": resamples,
        "seconds": seconds,
        "core_seconds": spent,
        "checked": checked,
        "targets": {t: {} for t in fit.targets},
    }
    for name, of in (("train", runs), ("3B", table)):
        theirs = full_members.predict(of.N, of.D, of.h)
        for kind, ensemble in (("", members), (", lowest", lowest)):
            ours = ensemble.predict(of.N, of.D, of.h)
            for t in fit.targets:
                found["targets"][t][name + kind] = float(
                    np.median(ours[t][:checked].std(axis=0) / theirs[t].std(axis=0))
                )
    excess = full.f.min(axis=1).reshape(len(fit.targets), checked)
    for g, t in enumerate(fit.targets):
        found["targets"][t]["excess of full, percent"] = float(
            100 * np.mean(excess[g] / weighted_objective(runs, lowest, t, weights[:checked]) - 1)
        )
    head = list(next(iter(found["targets"].values())))
    print(
        markdown(
            ["ratio of standard errors", *head],
            [[t, *(f"{v:.3f}" for v in r.values())] for t, r in found["targets"].items()],
        )
    )
    return found


def small(tables: int) -> dict[str, Any]:
    """True regrets of the mixtures that `decide` recommends from small tables."""
    sizes, rows, began = (5e7, 1e8, 2e8, 4e8), [], time.perf_counter()
    for seed in range(tables):
        rng = np.random.default_rng(seed)
        names = ("web", "code", "books")
        drawn = random_truth("joint", len(names), names, seed).params
        truth = known_fit("joint", names, drawn)
        mixtures = rng.dirichlet(np.ones(len(names)), 15)
        which = np.concatenate([rng.permutation(15)[:10] for _ in sizes])
        N = np.repeat(sizes, 10)
        runs = simulate_runs(truth, mixtures[which], N, 20 * N, noise=NOISE, seed=seed)
        asked: dict[str, Any] = {"N": 7e9, "D": 1.4e11}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mj.MixjaxWarning)
            found = mj.decide(runs, asked)
            within = mj.Question(replace(truth, share_ranges=found.fit.share_ranges), **asked)
            best = mj.optimal_mixture(within.but(trained=True)).objective
            free = mj.optimal_mixture(within).objective
        cost = float(within.value(list(found.mixture.weights.values())))
        bound = found.interval.regret
        rows.append(
            {
                "seed": seed,
                "law": found.choice.law,
                "regret": cost - best,
                "bound": bound,
                "kept": bool(cost - best <= bound),
                "percent": 100 * (cost - best) / best,
                "percent_of_all": 100 * (cost - free) / free,
            }
        )
        print(rows[-1], flush=True)
    return {
        "tables": rows,
        "kept": sum(row["kept"] for row in rows),
        "largest_percent": max(row["percent"] for row in rows),
        "largest_percent_of_all": max(row["percent_of_all"] for row in rows),
        "seconds": time.perf_counter() - began,
    }


def weighted_objective(
    runs: Runs, members: Ensemble, target: str, weights: np.ndarray
) -> np.ndarray:
    """Objective (members,) of each member for its own row weights (members, rows)."""
    loss = runs.loss(target)
    seen = np.isfinite(loss)
    off = members.fit.huber.value(loss - members.predict(runs.N, runs.D, runs.h)[target])
    return np.array(
        [np.average(row[seen], weights=w[seen]) for row, w in zip(off, weights, strict=True)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=["simulated", "measured", "refits", "small"])
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--best", type=int, default=500, help="tables whose best mixture is sought")
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    if args.part in (None, "simulated"):
        write_result("uncertainty_simulated", simulated(args.tables, args.best))
    if args.part in (None, "measured"):
        write_result("uncertainty_measured", measured())
    if args.part in (None, "refits"):
        write_result("uncertainty_refits", refits(args.resamples, 20))
    if args.part in (None, "small"):
        write_result("uncertainty_small", small(min(args.tables, 20)))


if __name__ == "__main__":
    main()
