"""Claim: on the SlimPajama runs some thirty mixtures are enough for the paper's laws (paper Fig.
5).

    python -m benchmarks.enough_runs

Laws fitted to q of the 60 mixtures, all sizes and checkpoints of them; errors on mixtures that no
fit has, and on the 3B rows. Means over the 7 domains. Writes results/enough_runs.json and
results/enough_runs.png.
"""

from __future__ import annotations

import time
from typing import Any

import mixjax as mj
from benchmarks.common import data, write_result
from benchmarks.pictures import draw

LAWS = ("simple", "additive", "joint")
COUNTS = {"mixtures left out": (7, 10, 15, 22, 32, 48), "3B rows": (7, 15, 30, 60)}
REPEATS = {"mixtures left out": 8, "3B rows": 4}


def main() -> None:
    """Measure, print, write."""
    train, held = (
        mj.read_runs(data("slimpajama.csv"), where=f"split == '{split}'")
        for split in ("train", "eval")
    )
    result: dict[str, Any] = {}
    for name, rows in (("mixtures left out", None), ("3B rows", held)):
        began = time.perf_counter()
        found = mj.trust.enough_runs(
            train, LAWS, COUNTS[name], REPEATS[name], eval_runs=rows, targets=train.domains
        )
        result[name] = found.to_dict() | {
            "repeats": REPEATS[name],
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(f"{found}\n{result[name]['seconds']} s\n", flush=True)
    path = write_result("enough_runs", result)
    draw("enough_runs")
    print(f"written: {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
