"""Claim: mixjax reproduces the paper's numbers on its released runs, with lower training objectives than any known.

    python -m benchmarks.paper_tables

Fits the paper's laws to all targets with the default settings and prints ours beside the paper's: Table 8
(MRE on the training rows and at 3B), Table 16 (optimal weights), the Chinchilla replication of
Besiroglu et al. 2024, RegMix with rank correlations, and every objective beside the lowest one known.
Writes results/paper_tables.json and results/paper_tables.md (the README's tables).
"""

from __future__ import annotations

import json
import time
from typing import Any

import mixjax as mj
from benchmarks.common import RESULTS, data, markdown, shared, write_result

LAWS = ("simple", "additive", "joint", "full")
DOMAINS = ("arxiv", "book", "c4", "github", "commoncrawl", "stackexchange", "wikipedia")
TABLE_16 = {
    "average of the 7 domains": (9.6, 9.5, 25.1, 8.8, 12.1, 17.9, 17.0),
    "openhermes": (9.4, 4.8, 27.8, 6.6, 36.9, 13.5, 1.0),
}


def mean(values: list[float]) -> float:
    """Plain mean."""
    return sum(values) / len(values)


def slimpajama() -> tuple[dict[str, Any], dict[str, mj.Fit]]:
    """Objectives, MRE and seconds of every law, and the fits."""
    path = data("slimpajama.csv")
    train, held_out = (mj.read_runs(path, where=f"split == '{split}'") for split in ("train", "eval"))
    result, fits = {}, {}
    for law in LAWS:
        began = time.perf_counter()
        fits[law] = mj.fit(train, law=law)
        seconds = time.perf_counter() - began
        scores = {"train": fits[law].score(train), "3B": fits[law].score(held_out)}
        result[law] = {
            "seconds": round(seconds, 1),
            "objective": dict(fits[law].objective),
            "mre": {split: {t: s[t].mre for t in DOMAINS} for split, s in scores.items()},
            "mean_mre": {split: mean([s[t].mre for t in DOMAINS]) for split, s in scores.items()},
        }
        print(f"{law}: {seconds:.1f} s, mean MRE {result[law]['mean_mre']['train']:.3f} (train), {result[law]['mean_mre']['3B']:.2f} (3B) percent", flush=True)
    return result, fits


def table_8(ours: dict[str, Any]) -> str:
    """Ours beside the paper's, train and 3B."""
    known = shared("paper", "tables.json")
    printed = json.loads(known.read_text())["table_8"]["rows"] if known else []
    paper = {(row["law"], row["domain"], split): row[key] for row in printed for split, key in (("train", "train_mre_pct"), ("3B", "mre_3b_pct"))}
    rows = []
    for split in ("train", "3B"):
        for law in LAWS:
            cells = [f"{ours[law]['mre'][split][d]:.2f} ({paper.get((law, d, split), float('nan')):.2f})" for d in DOMAINS]
            average = mean([paper[law, d, split] for d in DOMAINS]) if paper else float("nan")
            rows.append([law, split, *cells, f"**{ours[law]['mean_mre'][split]:.3f}** ({average:.3f})"])
    return markdown(["law", "rows", *DOMAINS, "mean"], rows)


def table_16(additive: mj.Fit) -> tuple[dict[str, Any], str]:
    """Optimal weights of the additive law beside the paper's."""
    result, rows = {}, []
    for name, printed in TABLE_16.items():
        targets = DOMAINS if name.startswith("average") else (name,)
        best = mj.optimal_mixture(additive, N=6.5e9, D=1.5e11, weights=dict.fromkeys(targets, 1.0))
        result[name] = {"weights": best.weights, "gap": best.gap, "paper": dict(zip(DOMAINS, printed, strict=True))}
        rows.append([name, *(f"{100 * best.weights[d]:.1f} ({p})" for d, p in zip(DOMAINS, printed, strict=True)), f"{best.gap:.0e}"])
    return result, markdown(["minimised", *DOMAINS, "gap"], rows)


def records(ours: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Training objectives in percent above (+) or below (-) the lowest ones known."""
    path = shared("best_objectives.json")
    if not path:
        return {}, "(no file of best known objectives)"
    known = json.loads(path.read_text())
    excess = {law: {t: 100 * (f / known[law][t] - 1) for t, f in ours[law]["objective"].items()} for law in LAWS}
    targets = list(next(iter(excess.values())))
    return excess, markdown(["law", *targets], [[law, *(f"{excess[law][t]:+.3f}" for t in targets)] for law in LAWS])


def chinchilla() -> dict[str, Any]:
    """The replication of Hoffmann et al. by Besiroglu et al.: log residuals, 240 points."""
    runs = mj.read_runs(data("chinchilla.csv"), where="split == 'train'")
    began = time.perf_counter()
    fit = mj.fit(runs, law="chinchilla", residual="log")
    target = fit.targets[0]
    known = {"E": 1.81722, "alpha": 0.34731, "beta": 0.36717, "objective_sum": 1.01827402e-3}
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "params": dict(fit.params[target]),
        "objective_sum": fit.objective[target] * len(runs),
        "best_known": known,
    }


def regmix() -> dict[str, Any]:
    """Laws of h alone on RegMix: 512 runs of 17 domains, 256 held-out mixtures; MRE and rank correlation per target."""
    train, test = mj.read_runs(data("regmix_1m_train.csv")), mj.read_runs(data("regmix_1m_test.csv"))
    result = {}
    for law in ("additive_fixed_nd", "ye_m1", "ye_m4"):
        began = time.perf_counter()
        fit = mj.fit(train, law=law)
        scores = fit.score(test)
        result[law] = {
            "seconds": round(time.perf_counter() - began, 1),
            "targets": {t: {"mre": s.mre, "rank": s.rank} for t, s in scores.items()},
            "mean_mre": mean([s.mre for s in scores.values()]),
            "mean_rank": mean([s.rank or 0.0 for s in scores.values()]),
        }
    return result


def main() -> None:
    """Measure, print, write."""
    ours, fits = slimpajama()
    mixtures, table16 = table_16(fits["additive"])
    excess, record_table = records(ours)
    besiroglu, mixes = chinchilla(), regmix()
    regmix_table = markdown(
        ["target", *(f"{law}: {what}" for law in mixes for what in ("MRE", "rank"))],
        [[t, *(f"{mixes[law]['targets'][t][what]:.3f}" for law in mixes for what in ("mre", "rank"))] for t in next(iter(mixes.values()))["targets"]]
        + [["**mean**", *(f"**{mixes[law][what]:.3f}**" for law in mixes for what in ("mean_mre", "mean_rank"))]],
    )
    p = besiroglu["params"]
    text = "\n\n".join(
        [
            "MRE in percent, ours (the paper's Table 8).",
            table_8(ours),
            "Optimal weights in percent at 6.5e9 parameters and 1.5e11 tokens, additive law, ours (the paper's Table 16).",
            table16,
            "Training objective, percent above (+) or below (-) the lowest one known before.",
            record_table,
            f"Chinchilla's law on the points of Besiroglu et al.: E = {p['E']:.4f}, alpha = {p['alpha']:.4f}, beta = {p['beta']:.4f}, "
            f"sum of Huber losses {besiroglu['objective_sum']:.9e} (lowest known {besiroglu['best_known']['objective_sum']:.9e}).",
            "RegMix (1M models, 512 mixtures of 17 domains), scores on the 256 test mixtures: MRE in percent, Spearman's rank correlation.",
            regmix_table,
        ]
    )
    result = {"slimpajama": ours, "excess_over_best_known_percent": excess, "table_16": mixtures, "chinchilla": besiroglu, "regmix": mixes}
    path = write_result("paper_tables", result)
    (RESULTS / "paper_tables.md").write_text(text + "\n", encoding="utf-8")
    print(text, f"\nwritten: {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
