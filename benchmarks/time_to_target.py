"""Seconds until a joint-law fit is within 3, 1 and 0.3 percent of the best known: python -m
benchmarks.time_to_target

Every contestant of `contestants.py` minimises each of 8 targets from the same starts with all
cores, and stops at the last goal or at the limit. Medians over seeds, geometric means over targets;
a miss counts as the limit and is marked with >. Compilation is apart; --limit 600 is the default,
and takes hours where contestants miss.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, markdown, write_result
from benchmarks.contestants import CONTESTANTS, available
from benchmarks.pictures import draw
from benchmarks.tasks import SLIMPAJAMA, Task, experiment, make_task, records

GOALS = ("3 %", "1 %", "0.3 %")


def best_known(runs: Any, name: str) -> dict[str, float]:
    """The objectives to reach: the records, or on simulated runs those of a fit with four times the
    default starts."""
    found = records("joint") if name == "slimpajama" else {}
    if not found:
        import mixjax as mj

        found = dict(mj.fit(runs, "joint", starts=512, prior="none").objective)
    return found


def measure(task: Task, contestant: str, seeds: int, limit: float) -> dict[str, Any]:
    """Seconds to each goal and seed, None where it was not reached."""
    run = CONTESTANTS[contestant][0]
    curves = [run(task, seed, limit) for seed in range(seeds)]
    return {
        "seconds": [[c.time_to(task.best * (1 + goal)) for c in curves] for goal in task.goals],
        "compile": float(max(c.compile_seconds for c in curves)),
        "evaluations": int(np.median([c.evaluations for c in curves])),
        "best": float(min((c.best[-1] for c in curves if c.best), default=np.inf) / task.best - 1),
    }


def summary(targets: dict[str, Any], limit: float) -> dict[str, Any]:
    """Geometric means over targets of the medians over seeds, and which targets a contestant
    missed."""
    compilation = max(
        r["compile"] for r in targets.values()
    )  # mixjax compiles once for all targets of a table
    result: dict[str, Any] = {}
    for i, goal in enumerate(GOALS):
        medians = {
            t: float(np.median([limit if s is None else s for s in r["seconds"][i]]))
            for t, r in targets.items()
        }
        compiling = {t: m + compilation for t, m in medians.items()}
        result[goal] = {
            "seconds": float(np.exp(np.mean(np.log(list(medians.values()))))),
            "with compilation": float(np.exp(np.mean(np.log(list(compiling.values()))))),
            "missed": [t for t, m in medians.items() if m >= limit],
        }
    return result


def row(name: str, found: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    def cell(goal: str, kind: str) -> str:
        return ("> " if found[goal]["missed"] else "") + f"{found[goal][kind]:.3g}"

    ratio = found["1 %"]["seconds"] / ours["1 %"]["seconds"]
    missed = ", ".join(found["1 %"]["missed"]) or "none"
    return [
        name,
        *(cell(goal, "seconds") for goal in GOALS),
        cell("1 %", "with compilation"),
        f"{ratio:.1f}",
        missed,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds for one target and seed"
    )
    parser.add_argument("--only", nargs="*", help="contestants, by the start of their names")
    parser.add_argument("--name", default="time_to_target", help="of the result file")
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the table of the result file again, measure nothing",
    )
    args = parser.parse_args()
    if args.show:
        show(json.loads((RESULTS / f"{args.name}.json").read_text()), args.name)
        return
    runs, name = experiment()
    best = best_known(runs, name)
    result: dict[str, Any] = {
        "data": name,
        "limit": args.limit,
        "seeds": args.seeds,
        "goals": list(GOALS),
        "contestants": {},
    }
    path = RESULTS / f"{args.name}.json"
    if args.only and path.exists():  # the others' rows stay, if they were measured in the same way
        before = json.loads(path.read_text())
        if all(before[key] == result[key] for key in ("data", "limit", "seeds")):
            result["contestants"] = before["contestants"]
    for contestant, (_, needs, coordinates) in CONTESTANTS.items():
        if args.only and not any(contestant.startswith(o) for o in args.only):
            continue
        if not available(needs):
            print(f"{contestant}: left out, {needs} is not installed")
            continue
        targets: dict[str, Any] = {}
        for t in SLIMPAJAMA:
            targets[t] = measure(
                make_task(runs, t, coordinates, best[t]), contestant, args.seeds, args.limit
            )
            print(f"{contestant}, {t}: {targets[t]}", flush=True)
        result["contestants"][contestant] = {"targets": targets}
        write_result(args.name, result)
    show(result, args.name)


def show(result: dict[str, Any], file: str) -> None:
    """The table and the figure."""
    found = {
        name: summary(r["targets"], result["limit"]) for name, r in result["contestants"].items()
    }
    if "mixjax" in found:
        head = [
            "contestant",
            *(f"{goal}, s" for goal in GOALS),
            "1 %, compiled too, s",
            "times mixjax",
            "missed 1 %",
        ]
        print(markdown(head, [row(c, r, found["mixjax"]) for c, r in found.items()]))
    draw(file)


if __name__ == "__main__":
    main()
