"""The lowest objectives a given time finds, with their parameters: python -m benchmarks.long_run
joint --minutes 10

Fits of 512 starts and 8 hops with one seed after another until the time is up (the last one is
finished), on 2 cores about 45 seconds each for the joint law; the lowest of each target is kept.
Writes results/records_LAW.json beside the records known before.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import mixjax as mj
from benchmarks.common import markdown, write_result
from benchmarks.tasks import experiment, records
from mixjax.text import plain

STARTS, HOPS = 512, 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("law", nargs="?", default="joint")
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    warnings.simplefilter("ignore", mj.MixjaxWarning)
    runs, name = experiment()
    known = records(args.law) if name == "slimpajama" else {}
    best: dict[str, dict[str, Any]] = {}
    above: dict[str, str] = {}
    began, seed = time.perf_counter(), 0
    while time.perf_counter() - began < 60 * args.minutes:
        fit = mj.fit(runs, args.law, starts=STARTS, hops=HOPS, seed=seed, prior="none")
        for t in fit.targets:
            if t not in best or fit.objective[t] < best[t]["objective"]:
                best[t] = {
                    "objective": fit.objective[t],
                    "seed": seed,
                    "params": plain(dict(fit.params[t])),
                }
        seed += 1
        above = {
            t: f"{100 * (r['objective'] / known.get(t, r['objective']) - 1):+.2f} %"
            for t, r in best.items()
        }
        print(f"{time.perf_counter() - began:.0f} s, {seed} fits:", above, flush=True)
    seconds = time.perf_counter() - began
    found = {
        "data": name,
        "seconds": seconds,
        "fits": seed,
        "starts": STARTS,
        "hops": HOPS,
        "known before": known,
        "targets": best,
    }
    rows = [
        [t, f"{r['objective']:.6e}", f"{known.get(t, float('nan')):.6e}", above[t]]
        for t, r in best.items()
    ]
    print(markdown(["target", "found", "known before", "above it"], rows))
    write_result(f"records_{args.law}", found)


if __name__ == "__main__":
    main()
